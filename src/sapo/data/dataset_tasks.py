"""Tasks from any data set that the library `datasets` reads, each as its TASK.yaml describes it."""

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from sapo.artifacts.task import Example, SplitName, Task
from sapo.data.dataset_file import DatasetTask, read_dataset_task
from sapo.data.dataset_rows import Opened, open_dataset
from sapo.data.drawing import draw_rows
from sapo.data.folder import language_of
from sapo.runtime.errors import DataError


def load_dataset_tasks(
    names: Sequence[str], folder: Path, rows: tuple[int, int], seed: int
) -> Iterator[Task]:
    """The named tasks with at most `rows` training and test rows, drawn by `seed` as `draw_rows` draws them.

    folder: holds a NAME.yaml a task, and the files that these name. Every task's file, columns and first rows
    are checked before the others are read. Raises DataError for whatever cannot be used.
    """
    paths = {name: folder / f"{name}.yaml" for name in names}
    tasks = {name: read_dataset_task(path) for name, path in paths.items()}
    opened = {name: _checked(task, open_dataset(task, folder), name) for name, task in tasks.items()}
    for name, task in tasks.items():
        yield _task(name, task, opened[name], rows, seed)


def _checked(task: DatasetTask, opened: Opened, name: str) -> Opened:
    """The same, after its first rows have been tried."""
    splits: dict[SplitName, Iterator[dict[str, Any]]] = {}
    for split, rows in opened.splits.items():
        first = next(rows, None)
        if first is None:
            raise DataError(f"{name}: split {split} is empty")
        task.example(first, f"{name}, {split}, row 1")
        splits[split] = itertools.chain([first], rows)
    return Opened(splits, opened.known_rows, opened.source)


def _task(name: str, task: DatasetTask, opened: Opened, rows: tuple[int, int], seed: int) -> Task:
    pools: dict[str, list[Example]] = {}
    read: dict[str, JsonValue] = {}
    for split, content in opened.splits.items():
        pool, fingerprint = _pool(task, content, f"{name}, {split}", opened.known_rows.get(split))
        pools[split if "test" in opened.splits else "all"] = pool
        read[split] = fingerprint
    train, test = draw_rows(name, pools, task.answers, rows, seed)
    about: dict[str, JsonValue] = {"sentence": task.sentence, "label": task.label, "licence": task.licence}
    return Task(
        name=name,
        instruction=task.instruction,
        suffix=task.suffix,
        labels=task.answers,
        language=task.language or language_of(task.instruction.strip() or task.suffix),
        max_new_tokens=task.max_new_tokens,
        source=opened.source | about | {"read": read},
        train=train,
        test=test,
    )


def _pool(
    task: DatasetTask, rows: Iterator[dict[str, Any]], where: str, known: int | None
) -> tuple[list[Example], JsonValue]:
    """A split's first `task.pool` rows, of each text the first alone; how many were read, and their hash.

    known: how many rows the split has, if that is known. Raises DataError for a row that cannot be used, for
    fewer rows than are known, and where a label may occur only among those that were not read.
    """
    unique: dict[str, Example] = {}
    digest, count = hashlib.sha256(), 0
    for count, row in enumerate(itertools.islice(rows, task.pool), start=1):
        example = task.example(row, f"{where}, row {count}")
        digest.update(json.dumps(example.row(), ensure_ascii=False).encode() + b"\n")
        unique.setdefault(example.sentence.strip(), example)
    if known is not None and count != min(known, task.pool):
        raise DataError(
            f"{where}: {count} rows were read, but the data set says that there are {known}: try again"
        )
    absent = set(task.answers) - {example.label for example in unique.values()}
    if absent and count == task.pool:
        raise DataError(
            f"{where}: no row has the label {', '.join(sorted(absent)):.200} among the first {count}: "
            "raise 'pool', the number of rows that are read"
        )
    return list(unique.values()), {"rows": count, "sha256": digest.hexdigest()}
