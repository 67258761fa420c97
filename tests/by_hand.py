"""A run made by hand in the working folder, whose numbers can be worked out.

Files and records are real, weights are mere bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from laboratory import REPOSITORY
from sapo.analysis.answer_metrics import METRICS
from sapo.artifacts.chosen_prompt import Candidate, ChosenPrompt, prompt_sha256, unmeasured
from sapo.artifacts.lineage import (
    BaseOfAdapter,
    Learned,
    Lineage,
    Step,
    earlier_rows,
    model_folder,
    weights_path,
)
from sapo.artifacts.predictions import predictions_folder, write_predictions
from sapo.artifacts.provenance import FOLDER, Code, StageProvenance, host
from sapo.artifacts.run_record import PromptText, answers_record, selection_record, training_record
from sapo.artifacts.scores import RowScores, StageScores, TaskScores, write_scores
from sapo.artifacts.task import TASKS, Example, Task, load_task, save_task
from sapo.artifacts.versions import versions
from sapo.config import BASE, Params
from sapo.runtime.files import sha256_file
from sapo.runtime.outputs import write_json

TRAIN_ROWS, TEST_ROWS = 10, 20
LOSSES = (2.5, 1.25, 3.0)  # of each task's candidates, the original first; one more in every later task
FINGERPRINT = "f1"  # of the base model
TEMPLATE = "7" * 64  # sha256 of what a chat template puts around a text


def settings(order: Sequence[str]) -> Params:
    """The repository's settings, with these tasks in a sequence `by_hand`."""
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    tasks = {task: {"after": after} for task, after in zip(order, [BASE, *order], strict=False)}
    content["sequence"] = {"name": "by_hand", "source": "folder", "path": "tasks"}
    content["sequence"] |= {"tasks": tasks, "last": order[-1]}
    content["method"] |= {"name": "lora_inc_sapo", "selector": "sapo", "paraphrases": True}
    return Params.model_validate(content)


def metrics_of(scores: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Every other percentage is half of ROUGE-L, a log-likelihood a hundredth of it less 2 nats a token."""
    return {
        task: {name: value / (1 if name == "rouge_l" else 2) for name in METRICS}
        | {"log_likelihood": value / 100 - 2}
        for task, value in scores.items()
    }


def steps(losses: Sequence[float] = (4.0, 2.0, 4.0 / 3)) -> list[Step]:
    return [
        Step(step=number, loss=loss, grad_norm=1.0, learning_rate=0.1, epoch=number / 3)
        for number, loss in enumerate(losses, start=1)
    ]


@dataclass
class ByHand:
    """What report reads, by task where it is a task's."""

    params: Params
    stages: list[StageScores]
    prompts: dict[str, ChosenPrompt]
    lineage: Lineage

    @property
    def last(self) -> str:
        return self.params.sequence.last

    @property
    def adapter(self) -> str:
        """sha256 of the last model's weights."""
        return sha256_file(weights_path(self.last))

    def rows(self) -> list[RowScores]:
        """Twenty test rows with each score as their mean: half of them 1 above it, half 1 below."""
        spread = [1.0, -1.0] * (TEST_ROWS // 2)
        return [
            RowScores.model_validate(
                {"stage": one.stage, "task": task, "prompt": kind}
                | {metric: [value + part for part in spread] for metric, value in metrics.items()}
            )
            for one in self.stages
            for kind in ("chosen", "original")
            for task, metrics in one.under(kind).items()
        ]

    def write(self) -> None:
        """All that report reads but the weights and the chosen prompts, which are there already."""
        content = self.params.model_dump(mode="json")
        Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        write_scores(self.last, self.stages, self.rows())
        self.write_answers()
        self.lineage.write(model_folder(self.last))
        for script in ("select", "train", "evaluate"):
            for task in self.params.sequence.order:
                write_provenance_by_hand(f"{script}-{task}")
        write_provenance_by_hand(f"evaluate-{BASE}")

    def write_answers(self) -> None:
        """What each stage answered to the rows of `rows`, which have these scores."""
        tasks = {task: load_task(task) for task in self.params.sequence.evaluated}
        found = {(row.stage, row.task): row.metrics for row in self.rows() if row.prompt == "chosen"}
        for one in self.stages:
            with predictions_folder(one.stage) as folder:
                for name, task in tasks.items():
                    answers = [f"{name} {number} after {one.stage}" for number in range(len(task.test))]
                    write_predictions(folder, task, "chosen", answers, found[one.stage, name])

    def with_entry(self, number: int, **changes: Any) -> None:
        """Change what the lineage says of one task."""
        tasks = list(self.lineage.tasks)
        tasks[number] = tasks[number].model_copy(update=changes)
        self.lineage = self.lineage.model_copy(update={"tasks": tasks})


def write_provenance_by_hand(
    name: str, seconds: float = 2.5, revision: str = "c1", dirty: bool = False
) -> None:
    """metrics/provenance/NAME.json of a stage that ran so long, from this commit."""
    content = StageProvenance(
        started="2026-01-01T00:00:00+00:00",
        seconds=seconds,
        samples={"rows": 3},
        code=Code(revision=revision, dirty=dirty),
        host=host(),
        versions=versions(),
        params={},
    )
    write_json(FOLDER / f"{name}.json", content.content())


def run_by_hand(
    order: Sequence[str],
    rouge_l: Sequence[Sequence[float]],
    losses: Sequence[float] | None = LOSSES,
    **method: Any,
) -> ByHand:
    """A run over these tasks. rouge_l: a row a stage, the base model first; a column a task.

    method: fields of the method that differ from those of lora_inc_sapo. Under the original prompt every
    score of a trained model is 1 lower. The second candidate is chosen; without losses there is only the
    original.
    """
    params = settings(order)
    if losses is None:
        method |= {"selector": "original", "paraphrases": False}
    params = params.model_copy(update={"method": params.method.model_copy(update=method)})
    write_tasks(order)
    own = {task: PromptText(instruction=f"Say {task}.", suffix="Answer:", language="en") for task in order}
    asked, learned, prompts = dict(own), list[Learned](), dict[str, ChosenPrompt]()
    stages = [answered(params, BASE, order, rouge_l[0], asked, lower=0)]
    for number, (task, scores) in enumerate(zip(order, rouge_l[1:], strict=True)):
        prompts[task] = chosen_by_hand(params, order, number, losses)
        prompts[task].write()
        asked[task] = prompts[task].text
        start = weights_path(order[number - 1]) if number else None
        selector = prompts[task].selector
        learned.append(
            Learned(
                task=task,
                prompt=asked[task],
                original=own[task].instruction,
                selector=selector,
                selection=prompt_sha256(task),
                rows=TRAIN_ROWS,
                run=training_record(
                    params,
                    FINGERPRINT,
                    start,
                    task,
                    asked[task],
                    earlier=earlier_rows(params.method, learned),
                    selector=selector,
                    template=TEMPLATE,
                    device="cpu",
                ),
                history=steps(),
            )
        )
        weights_path(task).parent.mkdir(parents=True, exist_ok=True)
        weights_path(task).write_bytes(f"weights of {task}".encode())
        stages.append(answered(params, task, order, scores, asked, lower=0 if losses is None else 1))
    return ByHand(params, stages, prompts, lineage_by_hand(params, learned))


def write_tasks(order: Sequence[str]) -> None:
    for name in order:
        rows = [Example(f"{name} {number}", "yes") for number in range(TEST_ROWS)]
        (TASKS / name).mkdir(parents=True, exist_ok=True)
        save_task(
            TASKS / name, Task(name, f"Say {name}.", "Answer:", [], "en", None, {}, rows[:TRAIN_ROWS], rows)
        )


def answered(
    params: Params,
    stage: str,
    order: Sequence[str],
    scores: Sequence[float],
    asked: Mapping[str, PromptText],
    lower: float,
) -> StageScores:
    weights = None if stage == BASE else weights_path(stage)
    return StageScores(
        stage=stage,
        scores=metrics_of(dict(zip(order, scores, strict=True))),
        scores_original_prompt=metrics_of({task: v - lower for task, v in zip(order, scores, strict=True)}),
        run=answers_record(params, FINGERPRINT, weights, asked, TEMPLATE, "cpu"),
    )


def scores_by_hand(stage: str, chosen: TaskScores, original: TaskScores) -> StageScores:
    """The scores of a stage whose answers nothing is known of."""
    return StageScores(
        stage=stage,
        scores=chosen,
        scores_original_prompt=original,
        run=answers_record(settings(["a"]), FINGERPRINT, None, {}, TEMPLATE, "cpu"),
    )


def chosen_by_hand(
    params: Params, order: Sequence[str], number: int, losses: Sequence[float] | None
) -> ChosenPrompt:
    task, after = order[number], order[number - 1] if number else BASE
    texts = [f"Say {task}.", f"Better {task}.", f"Worse {task}."]
    candidates, record = unmeasured(texts[:1]), None
    if losses:
        places = sorted(range(len(losses)), key=losses.__getitem__)
        candidates = [
            Candidate(
                instruction=text, original=i == 0, loss=loss + number, rows=8, place=places.index(i) + 1
            )
            for i, (text, loss) in enumerate(zip(texts, losses, strict=True))
        ]
        weights = weights_path(after) if number else None
        record = selection_record(params, FINGERPRINT, weights, task, TEMPLATE, "cpu")
    return ChosenPrompt(
        task=task,
        after=after,
        selector=params.method.selector,
        search="exhaustive",
        rows=8,
        chosen=1 if losses else 0,
        instruction=texts[1 if losses else 0],
        original=texts[0],
        suffix="Answer:",
        language="en",
        run=record,
        candidates=candidates,
    )


def lineage_by_hand(params: Params, learned: Sequence[Learned]) -> Lineage:
    base = BaseOfAdapter(
        name=params.model.name, id="maker/model", revision=None, fingerprint=FINGERPRINT, adapter=None
    )
    return Lineage.of(params, base, learned)
