"""metrics/scores/STAGE.json and metrics/rows/STAGE.jsonl: the scores of all tasks after each stage so far.

The first file has means, the second one all rows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict

from sapo.artifacts.run_record import AnswersRecord
from sapo.artifacts.schema import Artifact, Part
from sapo.runtime.errors import OtherRunError
from sapo.runtime.outputs import write_json, write_jsonl

# A task is prompted with the instruction it was trained with, or with its own
Kind = Literal["chosen", "original"]
TaskScores = dict[str, dict[str, float]]  # task -> metric -> mean over the test rows, in the metric's unit


class StageScores(Part):
    """The scores of all tasks after one stage; `scores` under the chosen prompts."""

    stage: str
    scores: TaskScores
    scores_original_prompt: TaskScores
    run: AnswersRecord

    def under(self, kind: Kind) -> TaskScores:
        return self.scores if kind == "chosen" else self.scores_original_prompt


class Scores(Artifact):
    FORMAT: ClassVar[int] = 3  # 2: without ROUGE-1 and log-likelihood
    stages: list[StageScores]  # the base model first


class RowScores(Artifact):
    """A line: metric -> the score of every test row of a task after a stage, in test.jsonl's order.

    The unit is the metric's (sapo.analysis.answer_metrics): percent or, of log-likelihoods, nats a token.
    There is no line for `original` where both prompts are the same.
    """

    FORMAT: ClassVar[int] = 2  # 1: percentages alone
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[float]]
    stage: str
    task: str
    prompt: Kind

    @classmethod
    def of(cls, stage: str, task: str, prompt: Kind, metrics: Mapping[str, Sequence[float]]) -> "RowScores":
        """The line of these scores, to 1e-6."""
        rounded = {metric: [round(value, 6) for value in values] for metric, values in metrics.items()}
        return cls.model_validate({"stage": stage, "task": task, "prompt": prompt} | rounded)

    @property
    def metrics(self) -> dict[str, list[float]]:
        return self.__pydantic_extra__


def scores_path(stage: str) -> Path:
    return Path("metrics/scores") / f"{stage}.json"


def rows_path(stage: str) -> Path:
    return Path("metrics/rows") / f"{stage}.jsonl"


def write_scores(stage: str, stages: Sequence[StageScores], rows: Sequence[RowScores]) -> None:
    """Write means and rows of the stages up to and with `stage`."""
    write_jsonl(rows_path(stage), (line.content() for line in rows))
    write_json(scores_path(stage), Scores(stages=list(stages)).content())


def read_scores(stage: str, expected: Sequence[str]) -> list[StageScores]:
    """The scores up to `stage`.

    Raises OtherRunError where they are not those of the stages `expected`, in their order.
    """
    path = scores_path(stage)
    stages = Scores.read(path).stages
    if (found := [one.stage for one in stages]) != list(expected):
        raise OtherRunError(
            f"{path} holds the stages {', '.join(found) or 'none'}, expected {', '.join(expected)}"
        )
    return stages


def read_rows(stage: str) -> list[RowScores]:
    """The row scores up to `stage`."""
    return list(RowScores.read_lines(rows_path(stage)))
