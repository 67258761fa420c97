"""What the parts of gpu.py share: a limit of time, a record written as it goes, a timed step, tasks."""

import argparse
import gc
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from common import HERE, WORK, load_tasks, write_record
from timing import synchronize

from sapo.artifacts.task import Example, Task, load_task
from sapo.config import Params
from sapo.data.sources import EMBEDDED
from sapo.runtime.files import read_yaml

AGAIN = 5.0  # seconds from one signal to the next, where a library has swallowed the first
Entry = dict[str, Any]


class TimeIsUp(BaseException):
    """Not an Exception: libraries that catch everything must let it through."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsUp in the block after so many seconds, between two instructions of Python.

    Also where a library has turned it into an error of its own.
    """
    is_up = False

    def stop(*_: object) -> None:
        nonlocal is_up
        is_up = True
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    except Exception as error:
        if is_up:
            raise TimeIsUp from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Run:
    """A part's steps so far, printed and written after each one.

    planned: how many steps there are. summary: what the steps say together.
    """

    name: str
    arguments: argparse.Namespace
    params: Params | None = None
    planned: int = 0
    summary: Callable[[list[Entry]], Entry] = lambda entries: {}
    entries: list[Entry] = field(default_factory=list)
    time_is_up: bool = False
    failed: bool = False
    started: float = field(default_factory=time.perf_counter)

    @property
    def path(self) -> Path:
        tried = WORK / "results" if self.arguments.tiny else HERE / "results"
        return Path(self.arguments.out or tried) / f"gpu_{self.name}.json"

    def plan(self, params: Params, planned: int, summary: Callable[[list[Entry]], Entry]) -> None:
        self.params, self.planned, self.summary = params, planned, summary

    def add(self, step: str, **figures: Any) -> None:
        self.entries.append({"step": step} | figures)
        print(f"  {step}: {shown(figures)}", flush=True)
        self.write()

    def fail(self, step: str, error: Exception) -> None:
        """Note a step that failed; the log has where in the code it did."""
        traceback.print_exception(error)
        self.failed = True
        self.add(step, failed=f"{type(error).__name__}: {error!s:.300}")

    def write(self) -> Entry:
        """Write the record; the summary in it."""
        assert self.params
        summary = self.summary(self.entries)
        results = {
            "done": len(self.entries),
            "planned": self.planned,
            "time_is_up": self.time_is_up,
            "failed": self.failed,
            "seconds": time.perf_counter() - self.started,
            "summary": summary,
            "steps": self.entries,
        }
        write_record(self.path, self.arguments, self.params, results)
        return summary

    def close(self) -> None:
        """Say what was done, and what it comes to."""
        up = f"time is up after {self.arguments.minutes:g} min, " if self.time_is_up else ""
        print(f"{self.name}: {up}{len(self.entries)} of {self.planned or 'unknown'} steps done", flush=True)
        if self.entries:
            for key, value in self.write().items():
                print(f"  {key}: {value if isinstance(value, str) else shown({'': value})}")
            print(f"  written to {self.path}", flush=True)


def shown(figures: Entry) -> str:
    """Figures in one line; lists, and what there is not, are in the record alone."""
    texts = []
    for key, value in figures.items():
        if value is None or isinstance(value, list | dict):
            continue
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        texts.append(f"{key.replace('_', ' ')} {text}".strip())
    return ", ".join(texts)


@dataclass(frozen=True)
class Timed:
    """What a step gave, its seconds, and the most memory in use on the GPU, the model's included (GiB)."""

    value: Any
    seconds: float
    peak_gib: float | None


def timed(work: Callable[[], Any]) -> Timed:
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    synchronize()
    started = time.perf_counter()
    value = work()
    synchronize()
    seconds = time.perf_counter() - started
    return Timed(value, seconds, torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None)


def free() -> None:
    """Give back the memory of models that nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def sequence_name(arguments: argparse.Namespace) -> str:
    """Which of conf/sequence/: in a trial without files, one whose rows can be made up."""
    made = arguments.tiny and not arguments.url
    return arguments.sequence or ("default" if made else "ni_seq_c1")


def tasks_for(arguments: argparse.Namespace, names: Sequence[str], rows: int) -> list[Task]:
    """The tasks with at most `rows` training and test rows: made up, packed, or fetched."""
    if arguments.tiny and not arguments.url:
        return [made_up(name, rows) for name in names]
    packed = WORK / "tasks"
    if arguments.url or not all((packed / name).is_dir() for name in names):
        return load_tasks(names, arguments.url, rows)
    tasks = [load_task(packed / name) for name in names]
    return [replace(task, train=task.train[:rows], test=task.test[:rows]) for task in tasks]


def made_up(name: str, rows: int) -> Task:
    """An embedded task's instruction and labels with texts of random words, so that nothing is fetched."""
    about, draw = read_yaml(EMBEDDED / f"{name}.yaml"), random.Random(name)
    words = ["oil", "wheat", "bank", "ship", "vote", "tax", "river", "market", "late", "high", "weak"]

    def row() -> Example:
        text = " ".join(draw.choices(words, k=draw.randint(4, 12)))
        return Example(text, draw.choice(about["labels"] or words))

    return Task(
        name=name,
        instruction=about["instruction"],
        suffix=about["suffix"],
        labels=about["labels"],
        language=about["language"],
        max_new_tokens=about["max_new_tokens"],
        source={"made_up": True},
        train=[row() for _ in range(rows)],
        test=[row() for _ in range(rows)],
    )
