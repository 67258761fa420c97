"""How the benchmarks measure: the sides in turns, peak memory in a process of its own."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch

MIB = 1 << 20
Side = Callable[[], Callable[[], Any]]  # prepares a run, which is not timed, and returns what is timed


def alternate(
    sides: Mapping[str, Side], repeats: int, warm_up: Mapping[str, Side] | None = None
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Run the sides in turns, A B A B ..., so that a slower or faster minute of the machine affects all.

    The first run of each, or its shorter `warm_up`, is not counted. Returns each side's seconds and the
    result of its last run.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results = {}
    for turn in range(repeats + 1):
        for name, prepare in (sides if turn else warm_up or sides).items():
            work = prepare()
            synchronize()
            started = time.perf_counter()
            results[name] = work()
            synchronize()
            taken = time.perf_counter() - started
            print(f"  {name}: {taken:.2f} s{'' if turn else ' (warm-up)'}", file=sys.stderr, flush=True)
            if turn:
                seconds[name].append(taken)
            del work  # a side's model goes before the next one's comes
    return seconds, results


def ready(work: Callable[[], Any]) -> Side:
    """A side that has nothing to prepare."""
    return lambda: work


def synchronize() -> None:
    """Wait for an accelerator: its calls return before their work is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def summary(seconds: Mapping[str, Sequence[float]], rows: int) -> dict[str, Any]:
    """All times; each side's median, minimum, maximum, rows a second, and time relative to the first side."""
    median = {name: statistics.median(times) for name, times in seconds.items()}
    first = next(iter(median.values()))
    return {
        "seconds": dict(seconds),
        "median_s": median,
        "min_s": {name: min(times) for name, times in seconds.items()},
        "max_s": {name: max(times) for name, times in seconds.items()},
        "rows_per_s": {name: rows / value for name, value in median.items()},
        "time_to_first": {name: value / first for name, value in median.items()},
    }


def timing_rows(title: str, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A summary as rows of a table."""
    keys = ("median_s", "min_s", "max_s", "rows_per_s", "time_to_first")
    return [{"": title, "side": side} | {key: entry[key][side] for key in keys} for side in entry["seconds"]]


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Fills `mib`: the most memory in use in the block, above that at its start (sampled; on a GPU exact)."""
    peak = {"mib": 0.0}
    process, done = psutil.Process(), threading.Event()
    start, on_gpu = process.memory_info().rss, torch.cuda.is_available()

    def watch() -> None:
        while not done.wait(0.002):
            peak["mib"] = max(peak["mib"], (process.memory_info().rss - start) / MIB)

    watcher = threading.Thread(target=watch)
    before = 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        if on_gpu:
            peak["mib"] = (torch.cuda.max_memory_allocated() - before) / MIB


def in_child(case: Mapping[str, Any]) -> Any:
    """Run this very command again with `--child CASE` added.

    What an earlier measurement left in memory does not disturb the new one. Returns the JSON value that the
    child prints last.
    """
    # Large blocks come from the system and go back at once: the peak is of memory in use, not of memory kept
    # for reuse.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(MIB)}
    command = [sys.executable, *sys.argv, "--child", json.dumps(case)]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])
