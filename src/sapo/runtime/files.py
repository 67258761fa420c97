"""Reading files, each error with the file's name and place, and telling files apart by their content."""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from sapo.runtime.errors import DataError

# What a shell would expand: ~, ~USER, $VARIABLE, ${VARIABLE}
SHELL = re.compile(r"^(~)(?=/|$)|^~[^/]*|(?:^|(?<=/))\$(\{)?(\w+)(?(2)\})(?=/|$)")


def read_text(path: str | Path, missing: str = "") -> str:
    """The content of a UTF-8 file, without a byte order mark.

    Raises DataError that names the file when it is missing (then with `missing`, what to do), a folder, or no
    such text.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} is missing{missing and f': {missing}'}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (see its byte {error.start}): save it as UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a path that holds a NUL
        raise DataError(
            f"{path} cannot be read as a file: {getattr(error, 'strerror', None) or error}"
        ) from error
    if "\0" in text:
        raise DataError(f"{path} holds NUL bytes, as UTF-16 or a damaged file does: save it as UTF-8")
    return text


def read_json(path: str | Path, finite: bool = True, missing: str = "") -> Any:
    """The content of a JSON file. Raises DataError that names the file when it is missing or not JSON.

    A key that occurs twice in one object is refused; so are NaN and numbers out of range, unless `finite` is
    False.
    """
    return parse_json(read_text(path, missing), str(path), finite)


def parse_json(text: str, where: str, finite: bool = True) -> Any:
    """As `read_json`, of a text that comes from `where`."""
    try:
        if not finite:
            return json.loads(text, object_pairs_hook=_unique)
        return json.loads(text, object_pairs_hook=_unique, parse_float=_in_range, parse_constant=_in_range)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not valid JSON: {error}") from error


def read_yaml(path: str | Path, missing: str = "") -> Any:
    """The content of a YAML 1.2 file. Raises DataError that names file and line, also for a repeated key."""
    return parse_yaml(read_text(path, missing), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """As `read_yaml`, of a text that comes from `where`."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = str(error.problem or error.context).partition(" with value")[0]
        raise DataError(f"{where} is not valid YAML: {place}{problem}") from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{where} is not valid YAML: {error}") from error


def no_text(value: Any) -> str:
    """What to do about a number, truth value, date or null that YAML found where a text belongs."""
    shown = json.dumps(value, default=str).strip('"')
    shown += {"true": " (as are yes and on)", "false": " (as are no and off)"}.get(shown, "")
    return f"{shown} is not a text in YAML: put it in quotes"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)!r:.80} occurs twice in one object")
    return content


def _in_range(written: str) -> float:
    number = float(written)
    if not math.isfinite(number):
        raise ValueError(f"{written:.40} is not a finite number")
    return number


def read_jsonl(path: str | Path, missing: str = "") -> Iterator[Any]:
    """The content of each line of a JSONL file. Raises DataError that names file and line of one not JSON."""
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"{path} is {'a folder, not a file' if path.is_dir() else 'missing'}{missing and f': {missing}'}"
        )
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{where} is not UTF-8 text (see its byte {error.start})") from error
            yield parse_json(text, where)


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


def unexpanded(path: str) -> str:
    """The path. Raises ValueError where a shell would expand it, as neither this program nor DVC does."""
    if found := SHELL.search(path):
        variable = "HOME" if found[1] else found[3]
        instead = f"{path[: found.start()]}${{oc.env:{variable}}}{path[found.end() :]}"
        raise ValueError(
            f"{found[0]} is not expanded: write the whole path{f', or {instead}' if variable else ''}"
        )
    return path
