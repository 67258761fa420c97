"""One run in one file: its settings, metrics and row scores, to be kept and compared without DVC's cache."""

from pathlib import Path

from pydantic import JsonValue

from sapo.artifacts.schema import Artifact
from sapo.artifacts.scores import RowScores
from sapo.artifacts.summary import Summary
from sapo.runtime.outputs import write_text


class RunResults(Artifact):
    """settings: what params.yaml holds. rows: of all stages."""

    settings: dict[str, JsonValue]
    summary: Summary
    rows: list[RowScores]

    def write(self, path: Path) -> None:
        """Write it in one line: most of it is scores, which nobody reads one by one."""
        write_text(path, self.model_dump_json() + "\n")
