"""models/base/base.json: which model the base is, and what its files are known by."""

from pathlib import Path
from typing import ClassVar

from sapo.artifacts.lineage import BaseOfAdapter
from sapo.artifacts.schema import Artifact, Part
from sapo.config import WheelMember
from sapo.runtime.outputs import write_json

BASE_FOLDER = Path("models/base")
ABOUT, ADAPTER = "base.json", "adapter"  # the latter: the folder of the adapter that is part of the model


class BaseAdapter(Part):
    """id: where it was taken from (`model.adapter`). sha256: file name -> hash."""

    id: str
    sha256: dict[str, str]


class BaseModelAbout(Artifact):
    """location: the weights' folder if not beside base.json. sha256: file name -> hash, empty for the hub.

    fingerprint: a hash of id, revision and these hashes, by which adapters and scores know their base model;
    of a model in a folder, of the hashes alone. adapter: part of the model, and of the fingerprint.
    """

    FORMAT: ClassVar[int] = 3  # 2: no adapter
    STAGE: ClassVar[str | None] = "base_model"
    name: str
    source: str
    id: str
    revision: str | None
    wheel: WheelMember | None
    location: str | None
    sha256: dict[str, str]
    adapter: BaseAdapter | None
    fingerprint: str

    def in_lineage(self) -> BaseOfAdapter:
        """How the lineage of an adapter names this model."""
        known = self.model_dump(include={"name", "id", "revision", "fingerprint"})
        return BaseOfAdapter(**known, adapter=self.adapter.sha256 if self.adapter else None)

    def write(self, folder: Path) -> None:
        write_json(folder / ABOUT, self.content())


def read_base(folder: Path = BASE_FOLDER) -> BaseModelAbout:
    """What base.json records (ArtifactError where it is missing or damaged)."""
    return BaseModelAbout.read(folder / ABOUT)
