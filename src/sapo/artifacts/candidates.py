"""data/paraphrases/TASK.json: a task's candidate instructions, the original first."""

from pathlib import Path
from typing import Literal

from sapo.artifacts.schema import Artifact, Part
from sapo.artifacts.task import Task
from sapo.runtime.errors import OtherRunError
from sapo.runtime.outputs import write_json


class Asked(Part):
    """How a language model's candidates came to be: questions asked, answers rejected (reason -> number)."""

    model: str
    style: Literal["manners", "plain"]
    temperature: float
    asked: int
    rejected: dict[str, int]


class Candidates(Artifact):
    FORMAT = 2
    task: str
    source: Literal["none", "bank", "file", "api"]  # none: the original alone
    candidates: list[str]
    api: Asked | None  # of source `api`

    def write(self) -> None:
        write_json(candidates_path(self.task), self.content())


def candidates_path(task: str) -> Path:
    return Path("data/paraphrases") / f"{task}.json"


def read_candidates(task: Task) -> list[str]:
    """The task's candidates, the first of which is the task's instruction.

    Raises ArtifactError for a damaged file, and where the first is another instruction.
    """
    path = candidates_path(task.name)
    found = Candidates.read(path).candidates
    if found[:1] != [task.instruction]:
        raise OtherRunError(
            f"{path}: the first of the candidates is not the instruction of {task.name}",
            stage=f"paraphrase@{task.name}",
        )
    return found
