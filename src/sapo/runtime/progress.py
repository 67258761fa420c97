"""One progress bar a stage: what is being done, how far it is, how fast, and the time to go.

In a terminal it is a bar. Elsewhere, as in a file, it is a line every half minute.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from sapo.runtime.processes import is_main

LINE_EVERY, DRAWN_EVERY = 30.0, 0.2  # seconds, without and with a terminal
FORM = "{desc}: {n_fmt}/{total_fmt}{postfix}, {rate_fmt}, {remaining} to go"
BAR = FORM.replace(": ", ": {percentage:3.0f}%|{bar}| ", 1)
OPEN = "{desc}: {n_fmt}{postfix}, {rate_fmt}"  # without a total


class Bar:
    """A stage's progress; the main process alone shows it. Its methods may be called from any thread."""

    def __init__(self, title: str, total: int | None, unit: str, done: int) -> None:
        self.title, self.unit, self.lock = title, unit, threading.RLock()
        self.in_terminal = sys.stderr.isatty()
        self.every = DRAWN_EVERY if self.in_terminal else LINE_EVERY
        self.told = time.monotonic()
        self.drawn = tqdm(
            total=total,
            initial=done,
            desc=title,
            unit=unit,
            unit_scale=unit == "B",
            bar_format=OPEN if total is None else BAR if self.in_terminal else FORM,
            dynamic_ncols=self.in_terminal,
            gui=not (self.in_terminal and is_main()),  # tqdm then draws nothing by itself
        )

    def update(self, count: float = 1) -> None:
        """So many more are done."""
        with self.lock:
            self.drawn.n += count
            self.show()

    def note(self, text: str) -> None:
        """What is measured now, as the loss, or waited for."""
        with self.lock:
            self.drawn.set_postfix_str(text, refresh=False)
            self.show()

    def part(self, title: str) -> None:
        """What of the stage is being done; nothing of it is measured yet."""
        with self.lock:
            self.drawn.set_description_str(f"{self.title}: {title}", refresh=False)
            self.drawn.set_postfix_str("", refresh=False)
            self.show()

    def say(self, text: str) -> None:
        """Print a line, above the bar."""
        with self.lock:
            tqdm.write(text) if self.in_terminal else print(text, flush=True)

    def show(self) -> None:
        """Where it is time to."""
        now = time.monotonic()
        if now - self.told < self.every or not is_main():
            return
        self.told = now
        if self.in_terminal:
            self.drawn.refresh()
        else:
            print(" ".join(str(self.drawn).split()), file=sys.stderr, flush=True)


class Part:
    """A part of a stage whose bar is shown: it counts there if it has the same unit."""

    def __init__(self, whole: Bar, unit: str) -> None:
        self.whole, self.counts = whole, unit == whole.unit
        self.note, self.part, self.say = whole.note, whole.part, whole.say

    def update(self, count: float = 1) -> None:
        self.whole.update(count if self.counts else 0)


_shown: list[Bar] = []


@contextmanager
def progress(title: str, total: int | None, unit: str, done: int = 0) -> Iterator[Bar | Part]:
    """The stage's bar until the block ends; within another such block, a part of its bar.

    unit: of `total`, `done` and updates, as "row"; "B" for bytes. total: None where it is not known.
    """
    if _shown:
        _shown[0].part(title)
        yield Part(_shown[0], unit)
        return
    bar = Bar(title, total, unit, done)
    _shown.append(bar)
    try:
        yield bar
    finally:
        _shown.remove(bar)
        bar.drawn.close()
