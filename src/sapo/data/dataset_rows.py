"""Rows of a data set through the library `datasets`: from files, or from the hub at a pinned commit.

They are streamed: nothing is unpacked, converted or kept on disk, and no code of a data set is run.
"""

import codecs
import glob
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import JsonValue

from sapo.artifacts.task import SplitName
from sapo.data.dataset_file import KINDS, DatasetTask
from sapo.runtime.errors import DataError
from sapo.runtime.files import git_blob_id
from sapo.runtime.imports import quick_imports
from sapo.runtime.keys import masked
from sapo.runtime.network import suspects
from sapo.runtime.outputs import STORAGE_ERRORS, storage_error

READERS = {*KINDS.values(), "arrow"}  # of `datasets`, which also has some for pickles and archives


@dataclass(frozen=True)
class Opened:
    """A data set whose rows are still to be read.

    splits: their rows. known_rows: how many a split has, where the data set says so. source: what identifies
    the data.
    """

    splits: dict[SplitName, Iterator[dict[str, Any]]]
    known_rows: dict[SplitName, int]
    source: dict[str, JsonValue]


def open_dataset(task: DatasetTask, folder: Path) -> Opened:
    """The rows that a task's file refers to. Raises DataError for what is not there or not to be trusted.

    folder: of the task's file.
    """
    return _open_hub(task) if task.dataset else _open_files(task, folder)


def _open_files(task: DatasetTask, folder: Path) -> Opened:
    names = [name for names in task.files.values() for name in names]
    for name in names:
        check_file(folder / name)
    kind = KINDS[PurePosixPath(names[0]).suffix]
    # An empty cell is null; "NA", "null" or "None" is a text
    options = {"keep_default_na": False, "na_values": [""]} if kind == "csv" else {}
    paths = {
        split: [glob.escape(str(folder.resolve() / name)) for name in names]
        for split, names in task.files.items()
    }
    with told(f"{folder / names[0]} cannot be read"):
        builder = _builder(kind, data_files=paths, **options)
        splits = {split: _rows(builder, split, f"{folder / task.files[split][0]}") for split in task.files}
    return Opened(splits, {}, {"git_blobs": {name: git_blob_id(folder / name) for name in names}})


def check_file(path: Path) -> None:
    """Raise DataError where there is no such file, or where it should be UTF-8 text and is not."""
    if not path.is_file():
        raise DataError(f"{path} is {'a folder, not a file' if path.is_dir() else 'missing'}")
    if KINDS[path.suffix] == "parquet":
        return
    decoder, size = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as stream:
        while True:
            chunk = stream.read(1 << 20)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                place = size - len(decoder.getstate()[0]) + error.start
                raise DataError(
                    f"{path} is not UTF-8 text (see its byte {place}): save it as UTF-8"
                ) from None
            if "\0" in text:
                raise DataError(f"{path} holds NUL bytes, as UTF-16 or a damaged file does: save it as UTF-8")
            if not chunk:
                return
            size += len(chunk)


def _open_hub(task: DatasetTask) -> Opened:
    where, home = f"{task.dataset} at {task.revision}", f"hf://datasets/{task.dataset}@{task.revision}/"
    with told(f"cannot read the data set {where}", hub=True):
        builder = _builder(f"hf://datasets/{task.dataset}", name=task.configuration, revision=task.revision)
        found = {split: list(map(str, files)) for split, files in (builder.config.data_files or {}).items()}
        for file in [file for files in found.values() for file in files]:
            if not file.startswith(home):  # its card may name a branch, and the library looks at the id alone
                raise DataError(f"{where} refers to {file!r:.200}, which is no file of that commit")
        if wrong := [f"{split!r}" for split in task.splits.values() if split not in found]:
            raise DataError(
                f"{where} has no split {', '.join(wrong)}, it has {', '.join(map(repr, found)):.400}: "
                "name them in 'splits'; without a 'test' there, test rows are drawn from 'train'"
            )
        splits = {
            split: _rows(builder, name, f"{where}, split {name}") for split, name in task.splits.items()
        }
    published = builder.info.splits or {}
    known = {split: published[name].num_examples for split, name in task.splits.items() if name in published}
    source: dict[str, JsonValue] = {
        "dataset": task.dataset,
        "revision": task.revision,
        "configuration": builder.config.name,
        "splits": {str(split): name for split, name in task.splits.items()},
        "files": {
            split: [file.removeprefix(home) for file in found[name]] for split, name in task.splits.items()
        },
    }
    return Opened(splits, {split: rows for split, rows in known.items() if rows}, source)


def _builder(path: str, **options: Any) -> Any:
    """A builder of `datasets`, one of READERS, which writes nothing."""
    with quick_imports():
        import datasets
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as scratch:  # no other version comes out of the user's own cache
        builder = datasets.load_dataset_builder(path, cache_dir=scratch, **options)
    readers = {f"datasets.packaged_modules.{reader}.{reader}" for reader in READERS}
    if not readers & {kind.__module__ for kind in type(builder).__mro__}:
        raise DataError(
            f"{path.removeprefix('hf://datasets/')} holds files that are not read here, "
            f"only {', '.join(sorted(READERS))}"
        )
    return builder


def _rows(builder: Any, split: str, where: str) -> Iterator[dict[str, Any]]:
    stream = builder.as_streaming_dataset(split=split)

    def rows() -> Iterator[dict[str, Any]]:
        with told(f"{where} cannot be read"):
            yield from stream

    return rows()


@contextmanager
def told(what: str, hub: bool = False) -> Iterator[None]:
    """Turn whatever the libraries raise into a DataError that says `what`: they have no common base class."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if storage_error(error) in STORAGE_ERRORS:
            raise
        from huggingface_hub import get_token

        advice = (
            " Check the id, the revision and the network; for a gated data set accept its terms on its page "
            "and set HF_TOKEN." + "".join(f" {found}." for found in suspects())
        )
        said = masked(str(error), get_token())[:400].rstrip(".")
        raise DataError(f"{what}: {type(error).__name__}: {said}.{advice if hub else ''}") from error
