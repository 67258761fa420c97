"""`tools/grid.py` from its options to its exit status."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from filelock import FileLock, Timeout

from sapo.grid import clones, report, repository
from sapo.grid.axes import Cell, cells
from sapo.grid.cached import Cache
from sapo.grid.cluster import Needs, cluster
from sapo.grid.driver import Driver, Settings, State, left_out
from sapo.grid.estimates import Durations, Sizes
from sapo.grid.kept import Kept
from sapo.grid.lifeline import Heart
from sapo.grid.pipeline import EXPERIMENT, STUDY, Sources, Stage, closure, stages
from sapo.grid.plan import Plan, Unit, plan
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
    origin = repository.origin(options.allow_dirty)
    asked = cells(options.overrides, options.name, options.study)
    done_before = repository.done_before(asked, origin)
    file = STUDY if options.study else EXPERIMENT
    made = planned(asked, origin.tree, options.study)
    cache = Cache(Kept(folder / "kept"), options.remote)
    cache.adopt(made.stages, keep=not options.dry)
    finished = cache.finished(made.stages)
    durations, sizes = Durations(folder), Sizes((EXPERIMENT, file) if options.study else (EXPERIMENT,))
    needs = Needs(options.cpus, options.gpus)
    if options.dry:
        slots = options.slots or here(needs)
        print("\n".join(report.dry(made, done_before, finished, durations, sizes, slots)))
        return 0
    wanted = report.wanted_units(made, done_before, finished)
    state = State(done=set(made.units) - set(wanted))
    if not options.keep:
        for name in done_before:  # a driver that was killed may have left them
            clones.remove(clone_of(folder, name))
    if not wanted:
        print(f"all cells were done before: {len(made.cells)} of {len(made.cells)}")
        return 0
    room = {name: needed_room(made, made.units[name], finished, sizes) for name in wanted}
    heart = Heart(folder)
    settings = Settings(
        repository=Path.cwd(),
        folder=folder,
        cache=cache.folder,
        remote=options.remote,
        origin=origin,
        file=file,
        sign=heart.path,
        cpus=options.cpus,
        gpus=options.gpus,
        keep=options.keep,
        wait=options.wait,
        room=room,
    )
    cache.folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with heart, cluster(options.address, needs, program(folder)) as ray:
        ray.wait_for_place(options.wait)
        if gpus := ray.unused_gpus():
            print(f"{gpus} GPUs are not used: give --gpus 1", flush=True)
        ray.probe(folder, folder if options.remote else cache.folder)
        with Progress(
            made, folder, lambda: report.expected(made, durations, finished), ray.slots()
        ) as progress:
            Driver(made, settings, durations, state).run(ray, progress.tell)
            progress.tell(state)
    print("\n".join(report.summary(made, state, done_before, folder, time.monotonic() - begun)))
    return 1 if state.failed or left_out(made, state) else 0


def program(folder: Path) -> Path:
    """A copy of this program that all nodes see, and that nobody edits while the grid runs."""
    copy = folder / "program"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(Path(__file__).parents[2], copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return copy


def needed_room(plan: Plan, unit: Unit, finished: set[str], sizes: Sizes) -> int:
    """Bytes for a clone with all that the unit needs, and for what it adds to the cache or what is kept."""
    of = plan.of_cell[unit.cell.name]
    made = {key: of[key] for key in unit.keys if key not in finished}
    return sizes.clone({key: of[key] for key in plan.whole(unit)}) + sizes.cache(made)


def planned(asked: Sequence[Cell], commit: str, study: bool) -> Plan:
    """The plan of these cells, of the files at the commit."""
    sources = Sources(commit)
    files = (EXPERIMENT, STUDY) if study else (EXPERIMENT,)
    of_cell = {cell.name: stages(cell, sources, files) for cell in asked}
    if study:  # what the study does not need of the experiment is not run
        of_cell = {name: needed(of) for name, of in of_cell.items()}
    return plan(of_cell, asked, lambda stage: stage.name.partition("@")[0] in SPREAD)


def needed(stages: dict[str, Stage]) -> dict[str, Stage]:
    """The stages of the study and all that they need."""
    wanted = closure((key for key, stage in stages.items() if stage.file == STUDY), stages)
    return {key: stages[key] for key in wanted}


def here(needs: Needs) -> int:
    """How many units this machine can run at a time, by its cores."""
    import psutil

    return max((psutil.cpu_count() or 1) // needs.cpus, 1)
