"""models/base/base.json: which model the base is, and what its files are known by."""

from pathlib import Path
from typing import ClassVar

from sapo.artifacts.schema import Artifact
from sapo.config import WheelMember
from sapo.runtime.outputs import write_json

BASE_FOLDER = Path("models/base")
ABOUT = "base.json"


class BaseModelAbout(Artifact):
    """location: the weights' folder if not beside base.json. sha256: file name -> hash, empty for the hub.

    fingerprint: a hash of id, revision and these hashes, by which adapters and scores know their base model;
    of a model in a folder, of the hashes alone.
    """

    FORMAT: ClassVar[int] = 2
    STAGE: ClassVar[str | None] = "base_model"
    name: str
    source: str
    id: str
    revision: str | None
    wheel: WheelMember | None
    location: str | None
    sha256: dict[str, str]
    fingerprint: str

    def write(self, folder: Path) -> None:
        write_json(folder / ABOUT, self.content())


def read_base(folder: Path = BASE_FOLDER) -> BaseModelAbout:
    """What base.json records (ArtifactError where it is missing or damaged)."""
    return BaseModelAbout.read(folder / ABOUT)
