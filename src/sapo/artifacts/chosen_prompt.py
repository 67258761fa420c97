"""data/prompts/TASK.json: every candidate instruction with its loss, and the prompt that is trained with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from sapo.artifacts.run_record import PromptText, SelectionRecord
from sapo.artifacts.schema import Artifact, Part
from sapo.artifacts.task import Task
from sapo.runtime.errors import ArtifactError, MixedRunsError, OtherRunError
from sapo.runtime.files import sha256_file
from sapo.runtime.outputs import write_json


class Candidate(Part):
    """loss: mean over `rows` rows, nats a token; null where nothing was measured.

    place: 1 for the lowest loss; null where the search did not measure the candidate on all rows.
    """

    instruction: str
    original: bool
    loss: float | None
    rows: int
    place: int | None


def unmeasured(candidates: Sequence[str]) -> list[Candidate]:
    """The candidates where nothing is measured."""
    return [
        Candidate(instruction=text, original=number == 0, loss=None, rows=0, place=None)
        for number, text in enumerate(candidates)
    ]


class ChosenPrompt(Artifact):
    """chosen: number of the candidate to train with. rows: how many rows candidates may be measured on."""

    FORMAT: ClassVar[int] = 2
    task: str
    after: str
    selector: str
    search: str
    rows: int
    chosen: int
    instruction: str
    original: str
    suffix: str
    language: str
    run: SelectionRecord | None  # null where nothing was measured
    candidates: list[Candidate]

    @property
    def text(self) -> PromptText:
        return PromptText(instruction=self.instruction, suffix=self.suffix, language=self.language)

    def write(self) -> None:
        write_json(prompt_path(self.task), self.content())


def prompt_path(task: str) -> Path:
    return Path("data/prompts") / f"{task}.json"


def prompt_sha256(task: str) -> str:
    """By which a lineage knows the selection that its task was trained after."""
    return sha256_file(prompt_path(task))


def read_prompt(task: Task, after: str) -> ChosenPrompt:
    """What `select` chose for the task after the stage `after`.

    Raises OtherRunError where that was another task or stage.
    """
    path = prompt_path(task.name)
    prompt = ChosenPrompt.read(path)
    expected = {"task": task.name, "after": after, "original": task.instruction}
    expected |= {"suffix": task.suffix, "language": task.language}
    if odd := [field for field, value in expected.items() if getattr(prompt, field) != value]:
        raise OtherRunError(f"{path} is of another run, see its {', '.join(odd)}")
    return prompt


def read_selections(selections: Mapping[str, str]) -> dict[str, ChosenPrompt]:
    """The files with these sha256, by task.

    Raises MixedRunsError for a file that differs: the models were trained after another one.
    """
    for task, sha256 in selections.items():
        if not prompt_path(task).is_file():
            raise ArtifactError(f"{prompt_path(task)} is missing")
        if prompt_sha256(task) != sha256:
            raise MixedRunsError(f"{prompt_path(task)} is not the selection that the model was trained after")
    return {task: ChosenPrompt.read(prompt_path(task)) for task in selections}
