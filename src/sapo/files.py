"""Reading and writing files so that a reader never meets half of one."""

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import Any

import psutil
import yaml

STORAGE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
BY_A_STAGE = "run the stage that writes it (`dvc repro`), or fetch it (`dvc pull`)"


class DataError(Exception):
    """Input that cannot be used; the message names the file or key and says what to do."""


def read_text(path: str | Path, missing: str = BY_A_STAGE) -> str:
    """The content of a UTF-8 file, without a byte order mark.

    Raises DataError that names the file when it is missing (then with `missing`, what to do), a folder, or no such text.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {missing}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (see its byte {error.start}): save it as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a path that holds a NUL
        raise DataError(f"{path} cannot be read as a file: {getattr(error, 'strerror', None) or error}") from error
    if "\0" in text:
        raise DataError(f"{path} holds NUL bytes, as UTF-16 or a damaged file does: save it as UTF-8")
    return text


def read_json(path: str | Path, finite: bool = True) -> Any:
    """The content of a JSON file. Raises DataError that names the file when it is missing or not JSON.

    A key that stands twice in one object is refused; so are NaN and numbers out of range, unless `finite` is False.
    """
    text = read_text(path)
    try:
        return _parse(text, finite)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


def read_object(path: str | Path, **kinds: type | UnionType) -> dict[str, Any]:
    """The object in a JSON file of the pipeline, whose keys `kinds` are there and of these types (DataError)."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object, found {type(content).__name__}; {BY_A_STAGE}")
    for key, kind in kinds.items():
        if key not in content:
            raise DataError(f"{path} lacks '{key}': {BY_A_STAGE}")
        if not isinstance(content[key], kind):
            name = kind.__name__ if isinstance(kind, type) else str(kind)
            raise DataError(f"{path}: '{key}' must be of type {name}, found {content[key]!r:.80}; {BY_A_STAGE}")
    return content


def read_yaml(path: str | Path, missing: str = BY_A_STAGE) -> Any:
    """The content of a YAML file. Raises DataError that names file and line; a key that stands twice is refused."""
    text = read_text(path, missing)
    try:
        return yaml.load(text, _UniqueKeys)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise DataError(f"{path} is not valid YAML: {place}{error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid YAML: {error}") from error


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:  # before `<<` is resolved: a key may override a merged one
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands there twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _parse(text: str, finite: bool) -> Any:
    if not finite:
        return json.loads(text, object_pairs_hook=_unique)
    return json.loads(text, object_pairs_hook=_unique, parse_float=_in_range, parse_constant=_in_range)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)!r:.80} stands twice in one object")
    return content


def _in_range(written: str) -> float:
    number = float(written)
    if not math.isfinite(number):
        raise ValueError(f"{written:.40} is not a finite number")
    return number


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON through a temporary neighbour and one rename. NaN and infinity are refused (ValueError)."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text through a temporary neighbour and one rename."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file through a temporary neighbour and one rename. What a killed writer of the same file left is removed."""
    path = Path(path)
    with told_where(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for neighbour in path.parent.iterdir():
            of_writer = re.fullmatch(rf"{re.escape(path.name)}\.(\d+)-\d+\.partial", neighbour.name)
            if of_writer and not psutil.pid_exists(int(of_writer[1])):
                neighbour.unlink(missing_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")  # two writers do not share one
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
        raise DataError(f"{path} is {'a folder, not a file' if path.is_dir() else 'missing'}: {BY_A_STAGE}")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = _parse(line.decode("utf-8"), finite=True)
            except (ValueError, RecursionError) as error:
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
def told_where(path: str | Path) -> Iterator[None]:
    """Give an error of the file system the path that was being written, where Python or a library does not tell it.

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


@contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Wait until no other process makes `path`, and keep others waiting; the system ends this when the process dies.

    Whoever made `path` meanwhile leaves nothing to do: look again inside the block.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name}.lock")
    while True:
        ours = False
        with name.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process that makes {path}", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                ours = os.path.samestat(name.stat(), os.fstat(lock.fileno()))
            if not ours:
                continue  # the one before has removed the file that we waited for: others would not see our lock on it
            try:
                yield
            finally:
                name.unlink(missing_ok=True)
            return
