"""The answers of a run, row by row and stage by stage: what was forgotten, what was kept."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.intervals import Table
from sapo.artifacts.predictions import Prediction, read_predictions
from sapo.artifacts.run_record import PromptText
from sapo.artifacts.scores import StageScores
from sapo.artifacts.task import Task, load_task, split_path
from sapo.page.texts import in_script, visible
from sapo.prompts.encoder import user_turn
from sapo.runtime.errors import ArtifactError, MixedRunsError, OtherRunError
from sapo.runtime.files import sha256_file

# What became of a row of a task that was trained: right after its training, and now
STATES = {
    "forgotten": "right after the task's training, wrong now",
    "kept": "right after the task's training, and now",
    "learned later": "wrong after the task's training, right now",
    "never learned": "wrong after the task's training, and now",
}
NOT_TRAINED = "not trained"  # a probe's rows


@dataclass(frozen=True)
class TaskAnswers:
    """A task's test rows and what was answered. trained: number of its stage, None for a probe.

    prompts: a stage's; answers: (stages, rows).
    """

    task: Task
    trained: int | None
    prompts: list[PromptText]
    answers: list[list[Prediction]]

    def state(self, row: int) -> str:
        """What became of a row, by the answer after the task's own stage and that of the last one.

        With labels, right is an exact match. Of free text, right is any overlap (ROUGE-L above 0), and what
        has lost at least half of the ROUGE-L that it had is wrong.
        """
        if self.trained is None:
            return NOT_TRAINED
        metric = "exact_match" if self.task.labels else "rouge_l"
        had, has = (self.answers[stage][row].scores[metric] for stage in (self.trained, -1))
        right = has > had / 2
        if had > 0:
            return "kept" if right else "forgotten"
        return "learned later" if right else "never learned"

    def states(self) -> Counter[str]:
        """How many rows each state has."""
        return Counter(self.state(row) for row in range(len(self.task.test)))


def read_answers(
    stages: Sequence[StageScores], evaluated: Sequence[str], learned: Mapping[str, PromptText], table: Table
) -> list[TaskAnswers]:
    """The answers of all stages to all tasks, under the prompts that the model was trained with.

    evaluated: the trained tasks in their order, then the probes. learned: a task's prompt. table: the row
    scores under the chosen prompts. Raises ArtifactError for a file that is missing or damaged, OtherRunError
    for answers that do not have these scores, MixedRunsError for other test rows than those that were
    answered.
    """
    found = []
    for place, name in enumerate(evaluated):
        task, record = load_task(name), stages[-1].run.tasks[name]
        if sha256_file(split_path(name, "test")) != record.test:
            raise MixedRunsError(f"{split_path(name, 'test')} does not hold the rows that were answered")
        own = PromptText(instruction=task.instruction, suffix=task.suffix, language=task.language)
        trained = place + 1 if name in learned else None
        prompts = [learned[name] if trained and at >= trained else own for at in range(len(stages))]
        answers = [read_predictions(stage.stage, task) for stage in stages]
        for stage, lines, scores in zip(stages, answers, table[name], strict=True):
            _check_scores(f"the answers of {stage.stage} to {name}", lines, scores)
        found.append(TaskAnswers(task, trained, prompts, answers))
    return found


def _check_scores(what: str, lines: Sequence[Prediction], scores: np.ndarray) -> None:
    """Refuse answers whose scores are not those of the rows, (metrics, rows)."""
    for metric, values in zip(METRICS, scores, strict=True):
        for line, value in zip(lines, values, strict=True):
            if metric not in line.scores:
                raise ArtifactError(f"{what}: row {line.row} has no {metric}")
            if abs(line.scores[metric] - value) > 2e-6:  # rows are kept to 1e-6
                raise OtherRunError(
                    f"{what} are of another run: {metric} of row {line.row} is not what was recorded"
                )


class Texts:
    """Texts by number, each one once. size: bytes that they take in a page's script."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.size = 0

    def number(self, text: str) -> int:
        text = visible(text)
        if text not in self.numbers:
            self.numbers[text] = len(self.numbers)
            self.size += _size(text)
        return self.numbers[text]


def for_page(tasks: Sequence[TaskAnswers], stages: Sequence[str], room: int) -> dict[str, Any]:
    """All that the page's script shows of the answers, in at most `room` bytes of JSON.

    A row is [task, number, state, text, references, answers], an answer [text, a score for each metric], a
    prompt what stands before and after the text. Where not all rows have room, there are as many as have,
    drawn with a fixed seed; `of` says of how many.
    """
    asked = list(dict.fromkeys(prompt for one in tasks for prompt in map(_around, one.prompts)))
    content: dict[str, Any] = {
        "stages": list(stages),
        "metrics": [
            {"name": name, "title": of.title, "unit": of.unit, "decimals": of.decimals}
            for name, of in METRICS.items()
        ],
        "tasks": [
            {
                "name": one.task.name,
                "trained": one.trained,
                "labels": bool(one.task.labels),
                "prompts": [asked.index(_around(prompt)) for prompt in one.prompts],
            }
            for one in tasks
        ],
        "prompts": [[visible(part) for part in prompt] for prompt in asked],
    }
    places = [(number, row) for number, one in enumerate(tasks) for row in range(len(one.task.test))]
    texts, rows = Texts(), list[list[Any]]()
    size = _size(content) + 100  # and the names of `rows`, `of` and `texts`
    known = 0  # texts of the rows that are kept
    for number, row in random.Random(0).sample(places, len(places)):
        line = [number, row, *_row(tasks[number], row, texts)]
        size += _size(line)
        if size + texts.size > room:
            break
        rows.append(line)
        known = len(texts.numbers)
    return content | {"rows": sorted(rows), "of": len(places), "texts": list(texts.numbers)[:known]}


def _row(one: TaskAnswers, row: int, texts: Texts) -> list[Any]:
    example, given = one.task.test[row], [answers[row] for answers in one.answers]
    answers = [[texts.number(line.prediction), *_short(line.scores)] for line in given]
    return [one.state(row), texts.number(example.sentence), [*map(texts.number, example.references)], answers]


def _short(scores: Mapping[str, float]) -> list[float]:
    """Each metric's score with the decimals that are shown; whole numbers without any."""
    rounded = [round(scores[name], metric.decimals) for name, metric in METRICS.items()]
    return [int(value) if value == int(value) else value for value in rounded]


def _around(prompt: PromptText) -> tuple[str, str]:
    """What a user turn has before and after the row's text."""
    before = user_turn(prompt.instruction, "", "", prompt.language)
    return before, user_turn(prompt.instruction, "", prompt.suffix, prompt.language)[len(before) :]


def _size(content: Any) -> int:
    """Bytes in a page's script, with the comma behind it."""
    return len(in_script(content).encode()) + 1
