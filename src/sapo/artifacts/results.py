"""One run in one file: its settings, metrics and row scores, to be kept and compared without DVC's cache."""

import json
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
        """Write it with a line a field, and a line for the scores of a task after a stage."""
        content = self.content()
        rows = ",\n".join(json.dumps(line) for line in content.pop("rows"))
        fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items()]
        write_text(path, "{" + ",\n".join([*fields, f'"rows": [\n{rows}\n]']) + "}\n")
