"""An unusable file is named, with the line; files and contents are told apart by what they hold."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.artifacts.scores import RowScores
from sapo.artifacts.task import Example, Task, load_task, save_task
from sapo.runtime.errors import ArtifactError, DataError
from sapo.runtime.files import read_json, read_jsonl, sha256_json

untimed = settings(deadline=None)  # how long a test takes depends on the machine
json_keys = st.dictionaries(st.text(max_size=3), st.integers() | st.none(), min_size=2, max_size=4)


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


@pytest.mark.parametrize(
    "line", [b'{"a": ', b"", b'{"a": "\xff"}', b"NaN", b'{"a": 1e999}', b'{"a": 1, "a": 2}']
)
def test_a_line_that_is_no_json_is_named_by_file_and_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2:? "):
        list(read_jsonl(path))


@pytest.mark.parametrize("line", [b"[1]", b"3", b"null", b'"text"'])
def test_a_line_that_is_no_object_is_named_by_whoever_reads_objects(tmp_path: Path, line: bytes) -> None:
    task = Task("t", "Judge.", "?", [], "en", None, {}, [Example("a", "b")], [Example("c", "d")])
    save_task(tmp_path / "t", task)
    with (tmp_path / "t/train.jsonl").open("ab") as stream:
        stream.write(line + b"\n")
    with pytest.raises(ArtifactError, match=r"train\.jsonl, line 2: expected an object"):
        load_task(tmp_path / "t")
    scores = tmp_path / "scores.jsonl"
    scores.write_bytes(b'{"format": 2, "stage": "base", "task": "t", "prompt": "chosen"}\n' + line + b"\n")
    with pytest.raises(ArtifactError, match=r"scores\.jsonl, line 2: expected an object"):
        list(RowScores.read_lines(scores))


@untimed
@given(content=json_keys)
def test_a_key_does_not_depend_on_the_order_of_keys_but_on_every_value(content: dict[str, Any]) -> None:
    turned = dict(reversed(content.items()))
    assert sha256_json(turned) == sha256_json(content)
    assert sha256_json(content | {next(iter(content)): "another value"}) != sha256_json(content)
