"""prepare: fetch the tasks and write their rows -> data/tasks/TASK/{task.json,train.jsonl,test.jsonl}."""

import re
from itertools import combinations

from sapo.analysis.answer_metrics import normal
from sapo.artifacts.task import TASKS, Task, save_task
from sapo.config import load_params
from sapo.data.sources import SOURCES
from sapo.runtime.command import run
from sapo.runtime.errors import DataError
from sapo.runtime.keys import HUB
from sapo.runtime.outputs import output_folder


def prepare() -> None:
    """Fetch and check the rows of every task of the sequence, and of its probes."""
    params = load_params()
    with output_folder(TASKS) as folder:
        for task in SOURCES[params.sequence.source].load(params.sequence, params.data):
            check(task)
            save_task(folder / task.name, task)
            report(task)


def check(task: Task) -> None:
    """Raise DataError for a task without rows, or with labels that exact match cannot tell apart."""
    if not task.train or not task.test:
        raise DataError(f"{task.name}: no rows are left for training or for testing")
    for one, other in combinations(task.labels, 2):
        if normal(one) == normal(other):
            raise DataError(
                f"{task.name}: exact match cannot tell the labels {one!r} and {other!r} apart: rename one"
            )


def report(task: Task) -> None:
    """Print how many rows there are, and how many of them are unusual."""
    print(f"{task.name}: {len(task.train)} training rows, {len(task.test)} test rows", flush=True)
    if shared := task.train_rows_also_in_test():
        print(
            f"{task.name}: {shared} training rows have a text that is tested too; they are kept as published"
        )
    if empty := task.empty_labels():
        print(f"{task.name}: {empty} rows have an empty label; right is to answer nothing")
    if unseen := [label for label in task.labels if not re.search("[A-Za-z0-9]", label)]:
        print(f"{task.name}: for the labels {', '.join(unseen)} ROUGE-L is always 0; read exact match")


if __name__ == "__main__":
    run(prepare, HUB)
