"""evaluate STAGE: the model after STAGE answers every task -> metrics/ and data/predictions/STAGE/.

metrics/scores/STAGE.json holds the means and metrics/rows/STAGE.jsonl each row's scores, of all stages so
far.

`evaluate base` is the zero-shot stage: the base model, every task under its original instruction.
"""

from statistics import fmean

from sapo.analysis.answer_metrics import METRICS, row_scores
from sapo.artifacts.base_model import read_base
from sapo.artifacts.lineage import weights_path
from sapo.artifacts.predictions import predictions_folder, write_predictions
from sapo.artifacts.provenance import write_provenance
from sapo.artifacts.run_record import PromptText, answers_record
from sapo.artifacts.scores import (
    Kind,
    RowScores,
    StageScores,
    TaskScores,
    read_rows,
    read_scores,
    write_scores,
)
from sapo.artifacts.task import Task, load_task
from sapo.config import BASE, load_params
from sapo.runtime.command import run
from sapo.runtime.imports import quick_imports
from sapo.runtime.processes import is_main
from sapo.runtime.progress import progress


def evaluate(stage: str) -> None:
    """Let the model after STAGE (a task, or `base`) answer every task, and score the answers."""
    with quick_imports():
        from sapo.answers.engine import Engine
        from sapo.lora.current import current_adapter
        from sapo.models.devices import device

    params = load_params(launched=True)
    before = [] if stage == BASE else params.sequence.before(stage)
    adapter = current_adapter([*before, stage]) if stage != BASE else None
    earlier, earlier_rows = [], list[RowScores]()
    if adapter:
        after = before[-1] if before else BASE
        earlier, earlier_rows = read_scores(after, [BASE, *before]), read_rows(after)
    learned = adapter.lineage.asked() if adapter else {}

    asked: dict[str, PromptText] = {}
    questions: list[tuple[Task, Kind, PromptText]] = []
    for name in params.sequence.evaluated:
        task = load_task(name)
        own = PromptText(instruction=task.instruction, suffix=task.suffix, language=task.language)
        asked[name] = learned.get(name, own)
        questions.append((task, "chosen", asked[name]))
        if asked[name].instruction != own.instruction:
            questions.append((task, "original", own))

    engine = Engine(params, stage, adapter, [(task, prompt) for task, _, prompt in questions])
    answers: list[tuple[Task, Kind, list[str], dict[str, list[float]]]] = []
    scores: dict[Kind, TaskScores] = {"chosen": {}, "original": {}}
    with progress(f"after {stage}", sum(len(task.test) for task, _, _ in questions), "row") as bar:
        for (task, kind, _), (texts, likelihoods) in zip(questions, engine.answers(), strict=True):
            references = [example.references for example in task.test]
            of_rows = row_scores(texts, references, likelihoods, task.name)
            answers.append((task, kind, texts, of_rows))
            scores[kind][task.name] = {metric: fmean(values) for metric, values in of_rows.items()}
            if kind == "chosen" and is_main():
                bar.say(f"after {stage}, {task.name}: {told(scores[kind][task.name])}")
    scores["original"] = scores["chosen"] | scores["original"]
    if not is_main():
        return

    with predictions_folder(stage) as folder:
        for task, kind, texts, of_rows in answers:
            write_predictions(folder, task, kind, texts, of_rows)
    rows = [RowScores.of(stage, task.name, kind, of_rows) for task, kind, _, of_rows in answers]
    weights = weights_path(stage) if adapter else None
    template = engine.encoder.template_sha256
    record = answers_record(params, read_base().fingerprint, weights, asked, template, device().type)
    now = StageScores(
        stage=stage, scores=scores["chosen"], scores_original_prompt=scores["original"], run=record
    )
    write_scores(stage, [*earlier, now], [*earlier_rows, *rows])
    count = sum(len(texts) for _, _, texts, _ in answers)
    write_provenance("evaluate", stage, params, tasks=len(asked), answers=count)


def told(scores: dict[str, float]) -> str:
    """A task's scores with their units, for the log."""
    return ", ".join(f"{metric.label} {metric.shown(scores[name])}" for name, metric in METRICS.items())


if __name__ == "__main__":
    run(evaluate)
