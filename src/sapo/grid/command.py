"""`tools/grid.py` from its options to its exit status."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from filelock import FileLock, Timeout

from sapo.grid import clones, report, repository
from sapo.grid.axes import Cell, cells
from sapo.grid.cached import Cache
from sapo.grid.cluster import Cluster, Needs, cluster
from sapo.grid.driver import Driver, Settings, State, left_out
from sapo.grid.estimates import Durations, Sizes
from sapo.grid.kept import Kept
from sapo.grid.lifeline import Heart
from sapo.grid.pipeline import EXPERIMENT, STUDY, Sources, Stage, closure, stages, unknown
from sapo.grid.plan import Look, Plan, Unit, plan
from sapo.grid.progress import Progress
from sapo.grid.work import clone_of
from sapo.runtime.errors import DataError

SPREAD = ("study_losses", "study_train")  # stages of the study that run side by side


@dataclass(frozen=True)
class Options:
    """What the command line says; see tools/grid.py."""

    FROM_COMMAND_LINE: ClassVar[Sequence[str]] = (
        *("address", "cpus", "gpus", "dry", "name", "folder"),
        *("remote", "keep", "allow_dirty", "wait", "slots"),
    )
    overrides: Sequence[str]
    study: bool = False
    address: str | None = None
    cpus: int = 1
    gpus: int = 0
    dry: bool = False
    name: str = ""
    folder: Path = Path(".grid")
    remote: str = ""
    keep: bool = False
    allow_dirty: bool = False
    wait: int = 60
    slots: int | None = None


def grid(options: Options) -> int:
    """Run it, or list it; the exit status: 0 where all cells are finished.

    Raises DataError, before any work, for what cannot be run.
    """
    if not (Path("dvc.yaml").is_file() and Path(".dvc").is_dir() and Path("conf").is_dir()):
        raise DataError("run this in the repository's top folder, where dvc.yaml is")
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    Path(".dvc/tmp").mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(".dvc/tmp/grid.lock", timeout=0), FileLock(folder / "lock", timeout=0):
            return alone(options, folder)
    except Timeout:
        raise DataError(
            f"another grid runs in this repository or in {folder}: wait for it, or stop it first"
        ) from None


def alone(options: Options, folder: Path) -> int:
    """The same, while no other grid works here."""
    here = Here(options, folder)
    look = here.look()
    for name in here.done_before:
        repository.check_sources(name, here.origin, look.plan.of_cell[name].values(), here.cache.source)
    if options.dry:
        slots = options.slots or slots_here(here.needs)
        print("\n".join(report.dry(look, here.done_before, here.durations, here.sizes, slots)))
        return 0
    wanted = report.wanted_units(look, here.done_before)
    if not options.keep:  # a driver that was killed may have left them
        for clone in (clone_of(folder, name) for name in look.plan.units.keys() - set(wanted)):
            if clone.name in here.done_before or not clones.unfinished(clone):
                clones.remove(clone)
    if not wanted:
        print(f"all cells were done before: {len(here.cells)} of {len(here.cells)}")
        return 0
    here.cache.folder.mkdir(parents=True, exist_ok=True)
    with Heart(folder) as heart, cluster(options.address, here.needs, program(folder)) as ray:
        ray.wait_for_place(options.wait)
        if gpus := ray.unused_gpus():
            print(f"{gpus} GPUs are not used: give --gpus 1", flush=True)
        ray.probe(Path.cwd(), [folder] if options.remote else [folder, here.cache.folder])
        return here.carry_out(look, wanted, ray, heart.path)


class Here:
    """What is asked of a grid, of the repository that is the working folder."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.origin = repository.origin(options.allow_dirty)
        self.cells = cells(options.overrides, options.name, options.study)
        self.done_before = repository.done_before(self.cells, self.origin)
        self.files = (EXPERIMENT, STUDY) if options.study else (EXPERIMENT,)
        self.durations, self.sizes = Durations(folder), Sizes(self.files)
        self.needs = Needs(options.cpus, options.gpus)
        self.sources = Sources(self.origin.tree)
        self.cache = Cache(Kept(folder / "kept"), options.remote, keep=not options.dry)

    def look(self) -> Look:
        """The plan of the cells, by the content of their rows and models where these are there."""
        made = planned(self.cells, self.sources, self.files, self.cache.content)
        self.cache.adopt(made.stages)
        return Look(made, self.cache.finished(made.stages))

    def carry_out(self, look: Look, wanted: Sequence[str], ray: Cluster, sign: Path) -> int:
        """Run these units, print the summary, and return the exit status."""
        begun = time.monotonic()
        state = State(done=look.plan.units.keys() - set(wanted))
        try:
            if first := [name for name in wanted if comes_first(look.plan.units[name], look.plan)]:
                self.drive(look, first, ray, sign, state)
                self.cache.forget_unfinished()
                look = self.look()
                wanted = report.wanted_units(look, self.done_before)
                state.done = look.plan.units.keys() - set(wanted)
            self.drive(look, wanted, ray, sign, state)
        finally:
            seconds = time.monotonic() - begun
            print("\n".join(report.summary(look.plan, state, self.done_before, self.folder, seconds)))
        return 1 if state.failed or left_out(look.plan, state) else 0

    def drive(self, look: Look, names: Sequence[str], ray: Cluster, sign: Path, state: State) -> None:
        units, options = {name: look.plan.units[name] for name in names}, self.options
        settings = Settings(
            repository=Path.cwd(),
            folder=self.folder,
            cache=self.cache.folder,
            remote=options.remote,
            origin=self.origin,
            file=self.files[-1],
            sign=sign,
            cpus=options.cpus,
            gpus=options.gpus,
            keep=options.keep,
            wait=options.wait,
            room={name: needed_room(look, unit, self.sizes) for name, unit in units.items()},
        )
        expected = partial(report.expected, look, self.durations)
        driver = Driver(replace(look.plan, units=units), settings, self.durations, state)
        with Progress(look.plan, self.folder, expected, ray.slots()) as progress:
            try:
                driver.run(ray, progress.tell)
            finally:
                progress.tell(state)


def comes_first(unit: Unit, plan: Plan) -> bool:
    """Whether the unit makes rows or a model, whose content the plan of the rest goes by."""
    return not unit.final and not any(plan.stages[key].needs for key in unit.keys)


def program(folder: Path) -> Path:
    """A copy of this program that all nodes see, and that nobody edits while the grid runs."""
    copy = folder / "program"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(Path(__file__).parents[2], copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return copy


def needed_room(look: Look, unit: Unit, sizes: Sizes) -> int:
    """Bytes for a clone with all that the unit needs, and for what it adds to the cache or what is kept."""
    of = look.plan.of_cell[unit.cell.name]
    made = {key: of[key] for key in unit.keys if key not in look.finished}
    return sizes.clone({key: of[key] for key in look.plan.whole(unit)}) + sizes.cache(made)


def planned(
    asked: Sequence[Cell],
    sources: Sources,
    files: Sequence[str],
    content: Callable[[str, Sequence[Stage]], str | None] = unknown,
) -> Plan:
    """The plan of these cells. content: see `stages`.

    Stages that need no other are a unit each. They run first: the content of rows and models tells which of
    the other stages are the same.
    """
    of_cell = {cell.name: stages(cell, sources, files, content) for cell in asked}
    if STUDY in files:  # what the study does not need of the experiment is not run
        of_cell = {name: needed(of) for name, of in of_cell.items()}
    return plan(of_cell, asked, lambda stage: not stage.needs or stage.name.partition("@")[0] in SPREAD)


def needed(stages: dict[str, Stage]) -> dict[str, Stage]:
    """The stages of the study and all that they need."""
    wanted = closure((key for key, stage in stages.items() if stage.file == STUDY), stages)
    return {key: stages[key] for key in wanted}


def slots_here(needs: Needs) -> int:
    """How many units this machine can run at a time, by its cores and GPUs."""
    import psutil

    slots = (psutil.cpu_count() or 1) // needs.cpus
    if needs.gpus:
        import torch

        slots = min(slots, torch.cuda.device_count() // needs.gpus)
    return max(slots, 1)
