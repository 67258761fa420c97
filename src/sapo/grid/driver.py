"""The loop: give out what is ready, fetch what is finished, go on where something fails."""

import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sapo.artifacts.versions import versions
from sapo.grid import clones, repository
from sapo.grid.cluster import Cluster
from sapo.grid.estimates import Durations
from sapo.grid.plan import LEAST, Plan, Unit, priorities, ready
from sapo.grid.repository import Origin
from sapo.grid.work import Job, Outcome, clone_of, log_of
from sapo.runtime.errors import DataError

RESERVE = 200 * 2**20  # bytes that must be free before another unit starts, where no estimate is larger
LOOK = 0.5  # seconds between two looks
PROCESSES = re.compile(r"--num[_-]processes[ =](\d+)")  # of `accelerate launch`


@dataclass
class State:
    """Where the grid is. Names are those of units; a cell's own unit has the cell's name."""

    done: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)  # since when
    failed: dict[str, Outcome] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # what ended units took
    beside: float = 0.0  # seconds of finished units in which no stage ran
    ran: list[tuple[str, str]] = field(default_factory=list)  # unit and stage, for each that was run
    stopped: str = ""  # why no more is given out
    held: str = ""  # why the next unit waits, though a slot is free


@dataclass(frozen=True)
class Settings:
    """What does not change while the grid runs.

    room: bytes that a unit needs, by its name. sign: the file by which the driver shows that it lives.
    remote: see Job.
    """

    repository: Path
    folder: Path
    cache: Path
    origin: Origin
    file: str
    sign: Path
    cpus: int
    gpus: int
    keep: bool
    wait: float
    room: Mapping[str, int] = field(default_factory=dict)
    remote: str = ""


class Driver:
    """Runs a plan on a cluster. `tell(state)` is called after each look."""

    def __init__(self, plan: Plan, settings: Settings, durations: Durations, state: State) -> None:
        self.plan, self.settings, self.durations, self.state = plan, settings, durations, state
        self.longest = self.order()
        self.without = 0.0  # since when no node can run a unit
        self.versions = versions()

    def order(self) -> dict[str, float]:
        """The seconds that wait behind each unit, by what is known now."""
        return priorities(
            self.plan.units, {name: self.expected(unit) for name, unit in self.plan.units.items()}
        )

    def expected(self, unit: Unit) -> float:
        return sum(self.durations.of(self.plan.stages[key]) or LEAST for key in unit.keys)

    def run(self, cluster: Cluster, tell: Callable[[State], None]) -> None:
        """Until all is finished or nothing more can be. Raises DataError where no node is left."""
        state = self.state
        while True:
            if not self.settings.sign.exists():
                raise DataError(
                    f"{self.settings.sign} is gone: deleted, or another grid works in that folder"
                )
            taken = set(state.running) | set(state.failed)
            waiting = [] if state.stopped else ready(self.plan.units, state.done, taken, self.longest)
            if waiting and not state.running:  # what runs may leave enough when it ends
                state.stopped = self.lacking(waiting[0])
                waiting = [] if state.stopped else waiting
            slots = cluster.slots() if waiting or state.running else 0
            self.check_nodes(slots, bool(waiting or state.running))
            state.held = ""
            for name in waiting[: max(slots - len(state.running), 0)]:
                if lacking := self.lacking(name):
                    state.held = lacking
                    break
                cluster.give(self.job(self.plan.units[name]))
                state.running[name] = time.monotonic()
            tell(state)
            if not state.running and not waiting:
                return
            if not state.running:
                time.sleep(LOOK)
            for name, outcome in cluster.ended(LOOK):
                self.ended(self.plan.units[name], outcome)

    def check_nodes(self, slots: int, wanted: bool) -> None:
        if slots or not wanted:
            self.without = 0.0
            return
        self.without = self.without or time.monotonic()
        if time.monotonic() - self.without > self.settings.wait:
            raise DataError(
                f"no node that could go on is left (waited {self.settings.wait:.0f} s): "
                "finished cells are experiments; the same command goes on"
            )

    def lacking(self, name: str) -> str:
        """Where there is no room for this unit and all that those that run may need; empty where there is."""
        needed = sum(max(RESERVE, self.settings.room.get(unit, 0)) for unit in (name, *self.state.running))
        for place in (self.settings.folder, self.settings.cache):
            free = shutil.disk_usage(place).free
            if free < needed:
                return (
                    f"{place}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB wanted for {name} and "
                    "what runs: free space, and give the same command again"
                )
        return ""

    def job(self, unit: Unit) -> Job:
        own = self.settings
        stages = self.plan.of_cell[unit.cell.name]
        return Job(
            name=unit.name,
            repository=str(own.repository),
            folder=str(own.folder),
            cache=str(own.cache),
            remote=own.remote,
            head=own.origin.head,
            tree=own.origin.tree,
            final=unit.final,
            overrides=unit.cell.overrides,
            params=unit.cell.text,
            file=own.file,
            threads=max(own.cpus // max((processes(stages[key].cmd) for key in unit.keys), default=1), 1),
            gpus=own.gpus,
            sign=str(own.sign),
            versions=self.versions,
            stages=[asdict(stages[key]) for key in self.plan.whole(unit)],
            keys=unit.keys,
        )

    def ended(self, unit: Unit, outcome: Outcome) -> None:
        state, own = self.state, self.settings
        state.seconds[unit.name] = time.monotonic() - state.running.pop(unit.name)
        by_name = {stage.name: stage for stage in self.plan.of_cell[unit.cell.name].values()}
        for name, seconds in outcome.seconds.items():
            state.ran.append((unit.name, name))
            if not outcome.error and name in by_name:
                self.durations.add(by_name[name], seconds)
        clone = clone_of(own.folder, unit.name)
        if not outcome.error and unit.final:
            try:
                repository.fetch(clone, own.origin.head, unit.name)
            except DataError as error:
                outcome.error = str(error)
        if outcome.error:
            state.failed[unit.name] = outcome
            if outcome.unfit or any("No space left" in line for line in [outcome.error, *outcome.tail]):
                state.stopped = state.stopped or f"{unit.name}: {outcome.error}"
            return
        state.done.add(unit.name)
        state.beside += outcome.whole - sum(outcome.seconds.values())
        self.longest = self.order()
        with suppress(OSError):  # a full disk: an estimate less
            self.durations.write()
        if not own.keep:
            clones.remove(clone)
        log_of(own.folder, unit.name).with_suffix(".lock").unlink(missing_ok=True)


def processes(command: str) -> int:
    """How many processes a stage of this command has at a time."""
    found = PROCESSES.search(command)
    return int(found[1]) if found else 1


def left_out(plan: Plan, state: State) -> dict[str, str]:
    """The cells that did not run, each with the failed unit that it waits for (empty: stopped before)."""
    found, begun = {}, state.done | set(state.failed) | set(state.running)
    for name in plan.cells:
        if name in begun:
            continue
        found[name] = next((other for other in above(plan, name) if other in state.failed), "")
    return found


def above(plan: Plan, name: str) -> list[str]:
    """All units that this one waits for, the nearest first."""
    found = dict.fromkeys(plan.units[name].needs)
    for need in (waiting := list(found)):
        new = [other for other in plan.units[need].needs if other not in found]
        found |= dict.fromkeys(new)
        waiting += new
    return list(found)
