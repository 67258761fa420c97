"""A reader never meets half of a file or folder, and an unusable file is named."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.runtime.cache import alone
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json, read_jsonl, sha256_json
from sapo.runtime.outputs import output_folder, write_json, write_jsonl, write_text

SRC = Path(__file__).parents[2] / "src"
untimed = settings(deadline=None)  # how long a test takes depends on the machine
json_keys = st.dictionaries(st.text(max_size=3), st.integers() | st.none(), min_size=2, max_size=4)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"[1,]", b"\xff\xfe{}"])
def test_json_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.json is not (valid JSON|UTF-8 text)"):
        read_json(path)


def test_fault_04_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.json is missing"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(DataError, match=r"absent\.jsonl is missing"):
        list(read_jsonl(tmp_path / "absent.jsonl"))


@pytest.mark.parametrize("line", [b'{"a": ', b"", b"[1]", b"3", b"null", b'"text"', b'{"a": "\xff"}'])
def test_a_line_that_is_no_object_is_named_by_file_and_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: "):
        list(read_jsonl(path))


@untimed
@given(content=json_keys)
def test_a_key_does_not_depend_on_the_order_of_keys_but_on_every_value(content: dict[str, Any]) -> None:
    turned = dict(reversed(content.items()))
    assert sha256_json(turned) == sha256_json(content)
    assert sha256_json(content | {next(iter(content)): "another value"}) != sha256_json(content)
