"""A reader never meets half of a file or folder."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from laboratory import REPOSITORY
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json, read_jsonl
from sapo.runtime.outputs import output_folder, storage_error, told_where, write_json, write_jsonl, write_text

SRC = REPOSITORY / "src"


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


def test_an_output_folder_appears_whole_and_replaces_all_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for name in ("first", "second"):
        with output_folder(target) as folder:
            (folder / name).write_text(name)
            assert not (target / name).exists()
    assert names(target) == ["second"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [DataError, RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_output_folder_that_fails_keeps_the_old_one_and_leaves_no_partial(
    tmp_path: Path, error: type[BaseException]
) -> None:
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
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], env={"PYTHONPATH": str(SRC)}, check=False
    )
    assert done.returncode == 9
    assert not target.exists()
    with output_folder(target) as folder:
        (folder / "whole").touch()
    assert names(target) == ["whole"]
    assert names(tmp_path) == ["out"]


def test_partial_files_of_dead_writers_go_with_the_next_write_and_those_of_living_ones_stay(
    tmp_path: Path,
) -> None:
    code = """
import os, sys
from pathlib import Path
from sapo.runtime.outputs import write_text
os.replace = lambda *_: os._exit(9)
write_text(sys.argv[1], "half")
"""
    target = tmp_path / "file.json"
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], env={"PYTHONPATH": str(SRC)}, check=False
    )
    assert done.returncode == 9
    [left] = tmp_path.iterdir()
    living = [tmp_path / f"file.json.{os.getppid()}-7.partial", tmp_path / "file.json.other.partial"]
    for path in living:
        path.touch()
    write_json(target, {})
    assert not left.exists()
    assert names(tmp_path) == sorted(path.name for path in [target, *living])


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),
            errno.ENOSPC,
        ),  # as safetensors says it
        (RuntimeError("a size of 28"), None),
    ],
)
def test_an_error_of_the_storage_is_told_with_the_path_whatever_the_library(
    tmp_path: Path, error: Exception, number: int | None
) -> None:
    assert storage_error(error) == number
    with pytest.raises(OSError if number else RuntimeError) as caught, told_where(tmp_path / "out"):
        raise error
    if number:
        assert isinstance(caught.value, OSError)
        assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "out"))
    else:
        assert caught.value is error


def test_an_error_that_names_its_file_keeps_that_name(tmp_path: Path) -> None:
    with pytest.raises(PermissionError) as caught, told_where(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "Permission denied", "elsewhere")
    assert caught.value.filename == "elsewhere"
