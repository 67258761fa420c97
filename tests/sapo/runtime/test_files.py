"""A reader never meets half of a file or folder, and an unusable file is named."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.runtime.errors import DataError

from sapo.runtime.cache import alone

from sapo.runtime.outputs import output_folder, write_json, write_jsonl, write_text

from sapo.runtime.files import read_json, read_jsonl, sha256_json

SRC = Path(__file__).parents[2] / "src"
untimed = settings(deadline=None)  # how long a test takes depends on the machine
json_keys = st.dictionaries(st.text(max_size=3), st.integers() | st.none(), min_size=2, max_size=4)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_leaves_the_whole_file_and_no_partial(tmp_path: Path) -> None:
    content = {"text": '{braces} "quotes" 支持 \u2028', "number": 0.1, "none": None}
    write_json(tmp_path / "new" / "file.json", content)
    write_jsonl(tmp_path / "new" / "rows.jsonl", [content, {}])
    assert names(tmp_path / "new") == ["file.json", "rows.jsonl"]
    assert read_json(tmp_path / "new" / "file.json") == content
    assert list(read_jsonl(tmp_path / "new" / "rows.jsonl")) == [content, {}]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_lacks_is_refused_and_the_old_file_stays(tmp_path: Path, value: float) -> None:
    write_json(tmp_path / "file.json", {"score": 1.0})
    write_jsonl(tmp_path / "rows.jsonl", [{"score": 1.0}])
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"score": value})
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl(tmp_path / "rows.jsonl", [{"score": 2.0}, {"score": value}])
    assert read_json(tmp_path / "file.json") == {"score": 1.0}
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == [{"score": 1.0}]
    assert names(tmp_path) == ["file.json", "rows.jsonl"]


def test_a_text_that_cannot_be_encoded_keeps_the_old_file_and_leaves_no_partial(tmp_path: Path) -> None:
    write_text(tmp_path / "file.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "file.txt", "\ud800")
    assert (tmp_path / "file.txt").read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


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


def test_an_output_folder_appears_whole_and_replaces_all_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for name in ("first", "second"):
        with output_folder(target) as folder:
            (folder / name).write_text(name)
            assert not (target / name).exists()
    assert names(target) == ["second"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [DataError, RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_output_folder_that_fails_keeps_the_old_one_and_leaves_no_partial(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "out"
    with output_folder(target) as folder:
        (folder / "kept").write_text("old")

    def fail() -> None:
        with output_folder(target) as folder:
            (folder / "kept").write_text("new")
            raise error

    with pytest.raises(error):
        fail()
    assert (target / "kept").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_what_a_killed_run_left_is_neither_taken_for_an_output_nor_kept(tmp_path: Path) -> None:
    target = tmp_path / "out"
    code = """
import os, sys
from sapo.runtime.outputs import output_folder
with output_folder(sys.argv[1]) as folder:
    (folder / "half").touch()
    os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", code, str(target)], env={"PYTHONPATH": str(SRC)}, check=False)
    assert done.returncode == 9
    assert not target.exists()
    with output_folder(target) as folder:
        (folder / "whole").touch()
    assert names(target) == ["whole"]
    assert names(tmp_path) == ["out"]


def test_partial_files_of_dead_writers_go_with_the_next_write_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from sapo.runtime.outputs import write_text
os.replace = lambda *_: os._exit(9)
write_text(sys.argv[1], "half")
"""
    target = tmp_path / "file.json"
    done = subprocess.run([sys.executable, "-c", code, str(target)], env={"PYTHONPATH": str(SRC)}, check=False)
    assert done.returncode == 9
    [left] = tmp_path.iterdir()
    living = [tmp_path / f"file.json.{os.getppid()}-7.partial", tmp_path / "file.json.other.partial"]
    for path in living:
        path.touch()
    write_json(target, {})
    assert not left.exists()
    assert names(tmp_path) == sorted(path.name for path in [target, *living])


def test_what_two_processes_make_at_once_is_made_by_one_and_a_killed_one_keeps_nobody_out(tmp_path: Path) -> None:
    code = """
import os, sys, time
from pathlib import Path
from sapo.runtime.cache import alone
target = Path(sys.argv[1])
with alone(target):
    if not target.exists():
        if sys.argv[2] == "dies":
            os._exit(9)
        time.sleep(0.3)
        target.touch()
        print("made it")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "new/target")]
    environment = {"PYTHONPATH": str(SRC)}
    assert subprocess.run([*command, "dies"], env=environment, check=False).returncode == 9
    several = [subprocess.Popen([*command, "lives"], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = "".join(process.communicate()[0] for process in several)
    assert [process.returncode for process in several] == [0] * 4
    assert printed.count("made it") == 1
    assert names(tmp_path / "new") == ["target"]
    with alone(tmp_path / "new/target"):
        assert names(tmp_path / "new") == [".target.lock", "target"]


@untimed
@given(content=json_keys)
def test_a_key_does_not_depend_on_the_order_of_keys_but_on_every_value(content: dict[str, Any]) -> None:
    turned = dict(reversed(content.items()))
    assert sha256_json(turned) == sha256_json(content)
    assert sha256_json(content | {next(iter(content)): "another value"}) != sha256_json(content)
