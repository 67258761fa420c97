"""What a person sees while the grid runs: a live table in a terminal, elsewhere a line for each event."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sapo.grid.driver import State
from sapo.grid.plan import Plan
from sapo.grid.simulate import simulate
from sapo.grid.work import STARTED, log_of

END = 64 << 10  # bytes at the end of a log in which the stage under way is looked for


class Progress:
    """`tell` is called after each look of the driver. expected: the seconds of each unit, as known now."""

    def __init__(
        self, plan: Plan, folder: Path, expected: Callable[[], dict[str, float]], slots: int
    ) -> None:
        self.plan, self.folder, self.expected, self.slots = plan, folder, expected, max(slots, 1)
        self.seconds, self.ended = expected(), 0
        self.begun = time.time()
        self.told: dict[str, str] = {}  # unit -> the stage or the end that a line told last
        self.held = ""
        self.live: Any = None

    def __enter__(self) -> "Progress":
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(refresh_per_second=2).__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.__exit__(*error)

    def tell(self, state: State) -> None:
        if self.live:
            self.live.update(self.table(state))
            return
        if state.held != self.held:
            self.held = state.held
            if self.held:
                print(f"waits: {self.held}", flush=True)
        for name in state.running:
            self.line(name, self.stage(name) or "starts")
        for name in [name for name in self.told if name not in state.running]:
            end = "failed" if name in state.failed else f"finished in {state.seconds.get(name, 0):.0f} s"
            self.line(name, f"{end}; {self.count(state)}")
            del self.told[name]

    def line(self, name: str, what: str) -> None:
        if self.told.get(name) != what:
            self.told[name] = what
            print(f"{name}: {what}", flush=True)

    def count(self, state: State) -> str:
        done = len(state.done & self.plan.cells.keys())
        failed = len(state.failed)
        more = f", {failed} failed" if failed else ""
        return f"{done} of {len(self.plan.cells)} cells{more}, about {as_time(self.to_go(state))} to go"

    def to_go(self, state: State) -> float:
        """Seconds, by what units are expected to take; those that run, less what they have had."""
        if len(state.seconds) > self.ended:
            self.seconds, self.ended = self.expected(), len(state.seconds)
        ended = state.done | set(state.failed)
        left = {name: unit for name, unit in self.plan.units.items() if name not in ended}
        now = time.monotonic()
        seconds = {
            name: max(self.seconds[name] - (now - state.running[name] if name in state.running else 0), 1.0)
            for name in left
        }
        return simulate(left, seconds, self.slots).seconds

    def stage(self, name: str) -> str:
        """The stage that the unit is at, by the end of its log; empty before the first."""
        path = log_of(self.folder, name)
        try:
            if path.stat().st_mtime < self.begun - 1:
                return ""
            with path.open("rb") as log:
                log.seek(max(path.stat().st_size - END, 0))
                text = log.read().decode("utf-8", errors="replace").rpartition("\n--- ")[2]
        except OSError:
            return ""
        found = STARTED.findall(text)
        return found[-1] if found else ""

    def table(self, state: State) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.count(state), title_justify="left", box=None, pad_edge=False)
        for title in ("running", "stage", "since"):
            table.add_column(title)
        now = time.monotonic()
        for name, since in state.running.items():
            table.add_row(name, self.stage(name) or "starts", as_time(now - since))
        for name, outcome in state.failed.items():
            table.add_row(name, Text(f"failed: {outcome.error}"), "")  # an error may look like markup
        if state.held:
            table.add_row("", Text(f"waits: {state.held}"), "")
        return table


def as_time(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"
