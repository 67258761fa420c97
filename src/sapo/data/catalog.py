"""The SuperNI and TRACE tasks of the public SAPO repository, as catalog.json names and pins them.

It holds facts only: each file's path, Git blob id and size, and which tasks cannot be used and why.
Rows and instruction texts come from the files.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict

from sapo.runtime.files import read_json

CATALOG = Path(__file__).parent / "catalog.json"


@dataclass(frozen=True)
class Blob:
    """A file: its path below a base URL, its Git blob id (40 hex digits), its size in bytes if known."""

    path: str
    id: str
    size: int | None


class Catalog(BaseModel):
    """files: path -> [Git blob id, size in bytes or null]. unusable: folder of a task -> why."""

    model_config = ConfigDict(extra="forbid")
    repository: str
    commit: str
    files: dict[str, tuple[str, int | None]]
    unusable: dict[str, str]


@cache
def catalog() -> Catalog:
    """The content of catalog.json."""
    return Catalog.model_validate(read_json(CATALOG))


def default_url() -> str:
    """Where the catalogued files are published, at the catalogued commit."""
    files = catalog().repository.replace("https://github.com", "https://raw.githubusercontent.com")
    return f"{files}/{catalog().commit}"


@cache
def task_folders() -> dict[str, str]:
    """The name of every catalogued task -> its folder.

    An example: task195 -> SUPERNI/task195_sentiment140_classification. A name is the folder's up to the first
    underscore, or all of it where two tasks would have the same.
    """
    folders = sorted(
        {str(PurePosixPath(path).parent) for path in catalog().files if path.endswith("/train.json")}
    )
    short = {folder: folder.split("/")[1].split("_")[0] for folder in folders}
    count = Counter(short.values())
    return {
        short[folder] if count[short[folder]] == 1 else folder.split("/")[1]: folder for folder in folders
    }


@cache
def unusable_tasks() -> dict[str, str]:
    """The catalogued tasks that no sequence can name -> why not."""
    return {
        name: catalog().unusable[folder]
        for name, folder in task_folders().items()
        if folder in catalog().unusable
    }


def blob(path: str) -> Blob:
    """A catalogued file."""
    return Blob(path, *catalog().files[path])
