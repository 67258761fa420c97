"""What stages took and left, so that a plan can say how long it takes and how much disk it needs."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from sapo.artifacts.provenance import GATHERED, RunProvenance
from sapo.grid.kept import read_lock
from sapo.grid.pipeline import Stage
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json
from sapo.runtime.outputs import write_json

FILE = "durations.json"
SCRIPTS = {"evaluate-base": "zero_shot"}  # as provenance calls a stage, where it is not SCRIPT-TASK
START = 6.0  # seconds of a clone and a DVC, measured on the machine of benchmarks/results


class Durations:
    """Seconds by stage: of the grid's own runs, by key and by name, and of the last run in the workspace."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.by_key: dict[str, float] = {}
        self.by_name = recorded()
        if self.path.is_file():
            content = read_json(self.path)
            self.by_key = content["by_key"]
            self.by_name |= content["by_name"]

    def add(self, stage: Stage, seconds: float) -> None:
        self.by_key[stage.key] = self.by_name[stage.name] = seconds

    def write(self) -> None:
        write_json(self.path, {"by_key": self.by_key, "by_name": self.by_name})

    def of(self, stage: Stage) -> float | None:
        """Of the same work, else of the stage of that name, else the mean of its kind; None: never seen."""
        found = self.by_key.get(stage.key, self.by_name.get(stage.name))
        if found is not None:
            return found
        kind = stage.name.partition("@")[0]
        alike = [seconds for name, seconds in self.by_name.items() if name.partition("@")[0] == kind]
        return fmean(alike) if alike else None


def recorded() -> dict[str, float]:
    """The seconds of each stage of the run in the workspace, as its provenance has them."""
    try:
        stages = RunProvenance.read(GATHERED).stages
    except DataError:
        return {}
    return {SCRIPTS.get(name, name.replace("-", "@", 1)): stage.seconds for name, stage in stages.items()}


class Sizes:
    """Bytes of each stage's outputs, by the name of the stage, as the workspace's dvc.lock has them."""

    def __init__(self, files: tuple[str, ...]) -> None:
        entries = {
            name: entry
            for file in files
            for name, entry in read_lock(Path(file).with_suffix(".lock"))["stages"].items()
        }
        self.of = {
            name: {out["path"]: out.get("size", 0) for out in entry.get("outs", [])}
            for name, entry in entries.items()
        }

    def clone(self, stages: Mapping[str, Stage]) -> int:
        """Of all outputs in one clone; those that the grid keeps are linked, and count once, in `cache`."""
        return sum(self._sum(stage) for stage in stages.values() if stage.restored)

    def cache(self, stages: Mapping[str, Stage]) -> int:
        """Of what these stages add to the shared cache, or are kept once."""
        return sum(self._sum(stage) for stage in stages.values())

    def _sum(self, stage: Stage) -> int:
        known = self.of.get(stage.name)
        if known is None:  # of another sequence: as the largest of its kind
            kind = stage.name.partition("@")[0]
            alike = [sum(outs.values()) for name, outs in self.of.items() if name.partition("@")[0] == kind]
            return max(alike, default=0)
        return sum(known.values())
