"""data/predictions/STAGE/TASK.jsonl: what the model after STAGE answered, a line a test row."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import ConfigDict

from sapo.artifacts.schema import Part
from sapo.artifacts.scores import Kind
from sapo.artifacts.task import Task
from sapo.runtime.outputs import output_folder, write_jsonl


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


def predictions_folder(stage: str) -> AbstractContextManager[Path]:
    """A new folder for the answers of a stage, which takes its name when the block ends."""
    return output_folder(Path("data/predictions") / stage)


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
    name = f"{task.name}.jsonl" if kind == "chosen" else f"{task.name}.original_prompt.jsonl"
    write_jsonl(folder / name, (line.model_dump() for line in lines))
