"""Worked values that lie beside the repository, or where SAPO_PARITY points; not in every clone."""

import json
import os
from pathlib import Path
from typing import Any

from laboratory import REPOSITORY

FOLDER = Path(os.environ.get("SAPO_PARITY") or REPOSITORY.parent / "shared/parity")
TOLERANCE = 1e-4


def worked(name: str) -> list[dict[str, Any]]:
    """The cases of a file, none where it is not there."""
    path = FOLDER / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
