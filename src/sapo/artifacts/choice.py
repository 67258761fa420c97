"""What `tools/choose.py --json` writes: a selection outside the pipeline, and what decided it."""

from pathlib import Path
from typing import ClassVar

from pydantic import JsonValue

from sapo.artifacts.base_model import BaseModelAbout
from sapo.artifacts.chosen_prompt import Candidate
from sapo.artifacts.run_record import Reading
from sapo.artifacts.schema import Artifact
from sapo.artifacts.scores import Kind
from sapo.config import Selection
from sapo.runtime.outputs import write_json


class Choice(Artifact):
    """chosen: number of the candidate of lowest loss.

    base: the model, with its adapter and the hashes of both. seed: drew the training rows of a file without
    splits. train, test: sha256 of the rows used. scores: metric -> mean over `test_rows`, in the metric's
    unit. Where nothing was answered test_rows and max_new_tokens are 0, test and scores null.
    """

    FORMAT: ClassVar[int] = 2  # 1: without seed, max_new_tokens, train, test

    task: str
    source: dict[str, JsonValue]  # the task's files and their hashes
    base: BaseModelAbout
    reading: Reading
    selection: Selection
    seed: int
    rows: int
    train: str
    versions: dict[str, str]
    device: str
    chosen: int
    instruction: str
    candidates: list[Candidate]
    test_rows: int
    test: str | None
    max_new_tokens: int
    scores: dict[Kind, dict[str, float]] | None

    def write(self, path: Path) -> None:
        write_json(path, self.content())
