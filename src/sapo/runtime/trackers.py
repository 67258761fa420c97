"""Curves of a training while it runs, for TensorBoard, W&B, MLflow and DVCLive: accelerate's trackers.

What they write lies in .tracking/, outside the outputs, a folder for each tracker and training. The same
training, also one that goes on from a checkpoint, is the same run there, and reports each step once.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json
from sapo.runtime.keys import masked
from sapo.runtime.outputs import write_json
from sapo.runtime.processes import is_main

if TYPE_CHECKING:
    from sapo.artifacts.lineage import Step

FOLDER = Path(".tracking")
REPORTED = "reported.json"  # in a training's folder: how many steps its tracker has, and its run there
CURVES = ("loss", "learning_rate", "grad_norm")
PROJECT = "sapo"
WITHOUT_SERVER = ("offline", "disabled", "dryrun")  # values of WANDB_MODE that need no key

Report = Callable[[Sequence["Step"]], None]
logger = logging.getLogger(__name__)


class Training(NamedTuple):
    """What a training is called. key: the same for the same inputs, code and versions. about: for lists."""

    method: str
    task: str
    key: str
    about: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.method}/{self.task}-{self.key}"


def check_installed(names: Sequence[str]) -> None:
    """Raise DataError for a tracker that is not installed."""
    for name in names:
        found = find_spec(name)
        if found is None or found.origin is None:  # a folder of that name is none
            raise DataError(
                f"tracking.report_to: {name} is not installed: pip install {name}, or take it out of the list"
            )


def check_keys(names: Sequence[str]) -> None:
    """Raise DataError for a tracker that lacks its key."""
    local = os.environ.get("WANDB_MODE", "").lower() in WITHOUT_SERVER
    if "wandb" in names and not local and not os.environ.get("WANDB_API_KEY"):
        raise DataError(
            "tracking.report_to: wandb has no key: set WANDB_API_KEY, "
            "or WANDB_MODE=offline to keep its files here, in the environment"
        )


@contextmanager
def tracking(names: Sequence[str], training: Training) -> Iterator[Report]:
    """What takes a training's history after each step, and gives the trackers what they do not have of it.

    Raises DataError for a tracker that does not start. One that fails later is left alone, with a warning.
    """
    if not names or not is_main():
        yield lambda history: None
        return
    from accelerate import PartialState

    PartialState()  # accelerate's log messages need it
    used: list[Used] = []

    def report(history: Sequence["Step"]) -> None:
        for one in list(used):
            with left_alone(used, one):
                one.report(history)

    try:
        for name in names:
            used.append(Used(name, training))
        yield report
    finally:
        for one in list(used):
            with left_alone(used, one):
                one.tracker.finish()


class Used:
    """One tracker at work on one training."""

    def __init__(self, name: str, training: Training) -> None:
        folder = FOLDER / name / training.name
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.file = name, folder / REPORTED
        self.reported: dict[str, Any] = {"steps": 0, "run": None}
        if self.file.exists():
            self.reported |= read_json(self.file)
        try:
            self.tracker = START[name](folder, training, self.reported["run"])
            if name == "mlflow":  # it names its runs itself
                self.reported["run"] = self.tracker.tracker.info.run_id
                write_json(self.file, self.reported)
        except Exception as error:
            raise DataError(f"tracking.report_to: {name} does not start: {told(error)}") from error

    def report(self, history: Sequence["Step"]) -> None:
        for step in history[self.reported["steps"] :]:
            # Noted first: a step that a kill cuts off may be missing there, and never is double
            self.reported["steps"] = step.step
            write_json(self.file, self.reported)
            self.tracker.log({f"train/{name}": getattr(step, name) for name in CURVES}, step=step.step)


@contextmanager
def left_alone(used: list[Used], one: Used) -> Iterator[None]:
    """The training does not depend on a tracker: one that fails is not asked again."""
    try:
        yield
    except Exception as error:
        logger.warning("tracking: %s fails, and gets no more steps: %s", one.name, told(error))
        used.remove(one)


def told(error: Exception) -> str:
    """The error in one line without keys, and not too long."""
    return " ".join(masked(f"{type(error).__name__}: {error}").split())[:300]


def _tensorboard(folder: Path, training: Training, run: str | None) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return _started(TensorBoardTracker(training.name, logging_dir=folder.parents[1]))


def _wandb(folder: Path, training: Training, run: str | None) -> Any:
    from accelerate.tracking import WandBTracker

    tracker = WandBTracker(
        os.environ.get("WANDB_PROJECT") or PROJECT,
        dir=str(folder),
        id=f"{training.task}-{training.key}",
        resume="allow",
        name=training.name,
        group=training.method,
        config=dict(training.about),
        settings={"console": "off", "silent": True},
    )
    return _started(tracker)


def _mlflow(folder: Path, training: Training, run: str | None) -> Any:
    from accelerate.tracking import MLflowTracker

    artifacts = None
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        store = folder.parents[1].absolute()
        artifacts = (store / "artifacts").as_uri()
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{store / 'mlflow.db'}"
    tracker = _started(MLflowTracker(PROJECT, artifacts, run_id=run, run_name=training.name))
    tracker.store_init_configuration(dict(training.about))
    return tracker


def _dvclive(folder: Path, training: Training, run: str | None) -> Any:
    from accelerate.tracking import DVCLiveTracker

    # DVCLive's defaults write a dvc.yaml and make DVC experiments: a stage of DVC must do neither
    tracker = DVCLiveTracker(
        dir=str(folder), resume=(folder / REPORTED).exists(), save_dvc_exp=False, dvcyaml=None, report=None
    )
    _started(tracker).store_init_configuration(dict(training.about))
    return tracker


def _started(tracker: Any) -> Any:
    tracker.start()
    return tracker


START: dict[str, Callable[[Path, Training, str | None], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "dvclive": _dvclive,
}
