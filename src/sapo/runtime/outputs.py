"""Writing files so that a reader never meets half of one, and a full disk is told as what it is."""

import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from sapo.runtime.errors import DataError

STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON through a temporary neighbour and one rename. NaN and infinity are refused (ValueError)."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_lines(path: str | Path, content: dict[str, Any]) -> None:
    """Write JSON with a line a field, and a line for each object of a list of them: short, but for Git."""

    def dumped(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(json.dumps(one, allow_nan=False) for one in value) + "\n]"
        return json.dumps(value, allow_nan=False)

    fields = ",\n".join(f"{json.dumps(name)}: {dumped(value)}" for name, value in content.items())
    write_text(path, "{" + fields + "}\n")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text through a temporary neighbour and one rename."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file through a temporary neighbour and one rename; remove what a killed writer of it left."""
    path = Path(path)
    with told_where(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for neighbour in path.parent.iterdir():
            of_writer = re.fullmatch(rf"{re.escape(path.name)}\.(\d+)-\d+\.partial", neighbour.name)
            if of_writer and not psutil.pid_exists(int(of_writer[1])):
                neighbour.unlink(missing_ok=True)
        # A name that no two writers share
        partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
        try:
            partial.write_bytes(content)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


@contextmanager
def told_where(path: str | Path) -> Iterator[None]:
    """Give a file system error the path that was being written, where Python or a library does not tell it.

    A full disk raises OSError without a path in Python, and errors of their own in safetensors and torch.
    """
    try:
        yield
    except OSError as error:
        if error.filename or error.errno not in STORAGE_ERRORS:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    except DataError:
        raise
    except Exception as error:
        number = storage_error(error) or (errno.ENOSPC if is_full(path) else None)
        if number not in STORAGE_ERRORS:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def storage_error(error: Exception) -> int | None:
    """The system's number of an error of the file system, also where a library tells it in words alone."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return error.errno if isinstance(error, OSError) else int(told[1]) if told else None


def is_full(path: str | Path) -> bool:
    """Whether less than 64 KiB are free on the file system that holds the path, or would hold it."""
    there = next(folder for folder in Path(path).absolute().parents if folder.is_dir())
    free = os.statvfs(there)
    return free.f_bavail * free.f_frsize < 1 << 16


@contextmanager
def output_folder(path: str | Path) -> Iterator[Path]:
    """A new folder to fill, which takes its name only when the block ends without an error.

    A crash leaves nothing under `path` that a later run would take for whole.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with told_where(path):
            partial.mkdir(parents=True)
            yield partial
            if path.is_symlink() or path.is_file():
                path.unlink()
            shutil.rmtree(path, ignore_errors=True)
            os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
