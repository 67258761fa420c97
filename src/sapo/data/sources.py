"""Where the rows of a sequence's tasks come from: a source is one entry here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sapo.artifacts.task import Task
from sapo.data.catalog import task_folders, unusable_tasks

if TYPE_CHECKING:
    from sapo.config import Data, Sequence

EMBEDDED = Path(__file__).parent / "tasks"


@dataclass(frozen=True)
class Source:
    """known: the names of its tasks; empty where they are found when it is read.

    path: what defines them (`sequence.path`); None where that is the user's own.
    load: the tasks of a sequence, in its order. unusable: names that none can have -> why.
    """

    known: Callable[[], set[str]]
    path: str | None
    load: Callable[["Sequence", "Data"], Iterator[Task]]
    unusable: Callable[[], dict[str, str]] = dict


def _embedded_names() -> set[str]:
    return {path.stem for path in EMBEDDED.glob("*.yaml")}


def _catalog_names() -> set[str]:
    return task_folders().keys() - unusable_tasks()


def _embedded(sequence: "Sequence", data: "Data") -> Iterator[Task]:
    from sapo.data.embedded import load_embedded_task

    for name in sequence.evaluated:
        yield load_embedded_task(name, data.train_rows, data.test_rows, data.max_words, data.seed)


def _catalog(sequence: "Sequence", data: "Data") -> Iterator[Task]:
    from sapo.data.catalog_tasks import load_catalog_tasks

    return load_catalog_tasks(sequence.evaluated, data.url, (data.train_rows, data.test_rows))


def _folder(sequence: "Sequence", data: "Data") -> Iterator[Task]:
    from sapo.data.folder import load_folder_tasks

    return load_folder_tasks(sequence.evaluated, sequence.path, (data.train_rows, data.test_rows), data.seed)


def _datasets(sequence: "Sequence", data: "Data") -> Iterator[Task]:
    from sapo.data.dataset_tasks import load_dataset_tasks

    rows = (data.train_rows, data.test_rows)
    return load_dataset_tasks(sequence.evaluated, Path(sequence.path), rows, data.seed)


SOURCES = {
    "embedded": Source(_embedded_names, "src/sapo/data/tasks", _embedded),
    "catalog": Source(_catalog_names, "src/sapo/data/catalog.json", _catalog, unusable_tasks),
    "folder": Source(set, None, _folder),
    "datasets": Source(set, None, _datasets),
}
