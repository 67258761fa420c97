"""data/predictions/STAGE/TASK.jsonl: what the model after STAGE answered, a line a test row."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import ConfigDict

from sapo.artifacts.schema import Part, as_artifact, validated
from sapo.artifacts.scores import Kind
from sapo.artifacts.task import Task
from sapo.runtime.errors import OtherRunError
from sapo.runtime.files import read_jsonl
from sapo.runtime.outputs import output_folder, write_jsonl

FOLDER = Path("data/predictions")


class Prediction(Part):
    """row: its number in test.jsonl. references: all right answers, as published.

    Each metric's score of the row has the metric's name, and the unit that sapo.analysis.answer_metrics says:
    percent, or for `log_likelihood` (of the first right answer) nats a token.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]
    row: int
    prediction: str
    references: list[str]

    @property
    def scores(self) -> dict[str, float]:
        return self.__pydantic_extra__


def predictions_folder(stage: str) -> AbstractContextManager[Path]:
    """A new folder for the answers of a stage, which takes its name when the block ends."""
    return output_folder(FOLDER / stage)


def write_predictions(
    folder: Path, task: Task, kind: Kind, answers: Sequence[str], scores: Mapping[str, Sequence[float]]
) -> None:
    """Write the answers to a task's test rows, in their order; scores: metric -> score of each row."""
    lines = [
        Prediction.model_validate(
            {"row": number, "prediction": answer, "references": [*example.references]}
            | {metric: of_rows[number] for metric, of_rows in scores.items()}
        )
        for number, (example, answer) in enumerate(zip(task.test, answers, strict=True))
    ]
    write_jsonl(folder / _name(task, kind), (line.model_dump() for line in lines))


def read_predictions(stage: str, task: Task, kind: Kind = "chosen") -> list[Prediction]:
    """The answers of a stage to a task's test rows, in their order.

    Raises ArtifactError that names file and line, OtherRunError where they are not to these rows.
    """
    path = FOLDER / stage / _name(task, kind)
    with as_artifact():
        lines = [
            validated(Prediction, line, f"{path}, line {number}")
            for number, line in enumerate(read_jsonl(path), 1)
        ]
    asked = [(number, [*example.references]) for number, example in enumerate(task.test)]
    if [(line.row, line.references) for line in lines] != asked:
        raise OtherRunError(f"{path} holds no answers to the test rows of {task.name}")
    return lines


def _name(task: Task, kind: Kind) -> str:
    return f"{task.name}.jsonl" if kind == "chosen" else f"{task.name}.original_prompt.jsonl"
