"""What `tools/choose.py --json` writes: a selection outside the pipeline, and what decided it."""

from pathlib import Path

from pydantic import JsonValue

from sapo.artifacts.base_model import BaseModelAbout
from sapo.artifacts.chosen_prompt import Candidate
from sapo.artifacts.run_record import Reading
from sapo.artifacts.schema import Artifact
from sapo.artifacts.scores import Kind
from sapo.config import Selection
from sapo.runtime.outputs import write_json


class Choice(Artifact):
    """chosen: number of the candidate of lowest loss. scores: metric -> mean over `test_rows`, percent.

    base: the model, with its adapter and the hashes of both. scores: null where nothing was answered.
    """

    task: str
    source: dict[str, JsonValue]  # the task's files and their hashes
    base: BaseModelAbout
    reading: Reading
    selection: Selection
    rows: int
    versions: dict[str, str]
    device: str
    chosen: int
    instruction: str
    candidates: list[Candidate]
    test_rows: int
    scores: dict[Kind, dict[str, float]] | None

    def write(self, path: Path) -> None:
        write_json(path, self.content())
