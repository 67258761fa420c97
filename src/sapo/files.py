"""Reading and writing files so that a reader never meets half of one."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class DataError(Exception):
    """Input that cannot be used; the message names the file or key and says what to do."""


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises DataError that names the file when it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run the stage that writes it (`dvc repro`), or fetch it (`dvc pull`)") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON through a temporary neighbour and one rename. NaN and infinity are refused (ValueError)."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text through a temporary neighbour and one rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")  # two writers do not share one
    content = text.encode("utf-8")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file. Raises DataError that names file and line for a line that is not an object."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is missing: run the stage that writes it (`dvc repro`), or fetch it (`dvc pull`)")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line.decode("utf-8"))
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not valid JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
            yield row


def sha256_file(path: str | Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_blob_id(path: str | Path) -> str:
    """The id that Git gives the file: sha1 of "blob <size>", a zero byte and its content."""
    path = Path(path)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(content: Any) -> str:
    """A key for JSON-like content that does not depend on the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@contextmanager
def output_folder(path: str | Path) -> Iterator[Path]:
    """A new folder to fill, which takes its name only when the block ends without an error.

    A crash leaves nothing under `path` that a later run would take for whole.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
