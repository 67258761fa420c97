"""The part `sequence` of gpu.py: the pipeline's own stages, one after another, with fewer rows and epochs."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from common import REPOSITORY, base_folder, compose
from gpu_run import Entry, Run, free, sequence_name, tasks_for
from timing import synchronize

from sapo.artifacts.base_model import BASE_FOLDER
from sapo.artifacts.scores import read_scores
from sapo.artifacts.task import TASKS, Task, save_task
from sapo.config import BASE, Params
from sapo.runtime.outputs import write_json

TINY = [
    *["model=tiny_llama", "recipe=small", "paraphrase.count=2", "selection.rows=4"],
    *["prompt.max_tokens=1536", "train.batch_size=4", "evaluate.max_new_tokens=4"],
]


@dataclass(frozen=True)
class Step:
    """A stage of a task. used, full: its rows, counted once an epoch, in this run and in the whole one."""

    kind: str
    task: str
    used: int
    full: int
    work: Callable[[], None]

    @property
    def name(self) -> str:
        return f"{self.kind} {self.task}"


def sequence(arguments: argparse.Namespace, run: Run) -> None:
    """Run the stages in a folder of their own, which goes at the end, and extrapolate their times."""
    tiny = arguments.tiny
    whole = compose([f"sequence={sequence_name(arguments)}", *(TINY if tiny else []), *arguments.overrides])
    rows = 6 if tiny else arguments.rows
    params = whole.model_copy(
        update={
            "data": whole.data.model_copy(update={"train_rows": rows, "test_rows": rows, "url": None}),
            "train": whole.train.model_copy(update={"epochs": 1 if tiny else arguments.epochs}),
        }
    )
    all_rows = max(whole.data.train_rows, whole.data.test_rows)
    tasks = tasks_for(arguments, params.sequence.evaluated, all_rows)
    steps = planned(whole, params, tasks)
    run.plan(params, len(steps), lambda entries: extrapolated(steps, entries))
    with own_folder(params, tasks, rows):
        for step in steps:
            free()  # the models of the stage before
            started = time.perf_counter()
            step.work()
            synchronize()
            figures: Entry = {"seconds": time.perf_counter() - started, "rows": step.used}
            if step.kind == "evaluate":
                stages = params.sequence.stages
                figures["scores"] = read_scores(step.task, stages[: stages.index(step.task) + 1])[-1].scores
            run.add(step.name, **figures)


def planned(whole: Params, params: Params, tasks: list[Task]) -> list[Step]:
    """Every stage with a model, in the order of the pipeline; paraphrase is counted with select."""
    from evaluate import evaluate
    from paraphrase import paraphrase
    from select_prompt import select
    from train import train

    def choose(task: str) -> None:
        paraphrase(task)
        select(task)

    def train_rows(task: Task, of: Params) -> int:
        return min(len(task.train), of.data.train_rows)

    tested = [sum(min(len(task.test), of.data.test_rows) for task in tasks) for of in (params, whole)]
    steps = [Step("evaluate", BASE, *tested, lambda: evaluate(BASE))]
    for task in tasks[: len(params.sequence.order)]:  # behind them are the probes
        learned = [train_rows(task, of) * of.train.epochs for of in (params, whole)]
        scored = [min(train_rows(task, of), of.selection.rows) for of in (params, whole)]
        steps += [
            Step("select", task.name, *scored, lambda name=task.name: choose(name)),  # type: ignore[misc]
            Step("train", task.name, *learned, lambda name=task.name: train(name)),  # type: ignore[misc]
            Step("evaluate", task.name, *tested, lambda name=task.name: evaluate(name)),  # type: ignore[misc]
        ]
    return steps


@contextmanager
def own_folder(params: Params, tasks: list[Task], rows: int) -> Iterator[None]:
    """A folder that holds what prepare and base_model would have written; the block runs in it."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="sequence-") as name:
        folder = Path(name)
        write_json(folder / "params.yaml", params.model_dump())  # JSON is YAML
        (folder / "src").symlink_to(REPOSITORY / "src")  # settings name files there
        (folder / BASE_FOLDER).parent.mkdir(parents=True)
        (folder / BASE_FOLDER).symlink_to(base_folder(params))
        for task in tasks:
            cut: Any = {"train": task.train[:rows], "test": task.test[:rows]}
            save_task(folder / TASKS / task.name, Task(**vars(task) | cut))
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def extrapolated(steps: list[Step], entries: list[Entry]) -> Entry:
    """The seconds of the whole run: a stage's own, times its whole rows by the rows it had.

    What a stage spends on loading is multiplied too, so this is rather too much. A stage that was not reached
    is taken at the mean seconds a row of its kind.
    """
    seconds = {entry["step"]: entry["seconds"] for entry in entries}
    total, guessed = 0.0, 0
    for step in steps:
        rates = [
            seconds[one.name] / one.used for one in steps if one.kind == step.kind and one.name in seconds
        ]
        if not rates:
            return {"whole sequence": f"unknown: no stage `{step.kind}` was reached"}
        guessed += step.name not in seconds
        rate = seconds[step.name] / step.used if step.name in seconds else fmean(rates)
        total += rate * step.full
    how = "each stage's seconds times its whole rows by the rows run"
    return {
        "seconds run": sum(seconds.values()),
        "whole sequence, minutes": total / 60,
        "how": how + (f"; {guessed} stages not reached, at the mean a row of their kind" if guessed else ""),
    }
