import errno

import pytest

from sapo.runtime.command import run, versions
from sapo.runtime.errors import DataError


def raises(error: Exception) -> None:
    raise error


def test_unusable_input_and_a_full_disk_end_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["src/x.py"])
    with pytest.raises(SystemExit, match=r"error: rows\.jsonl, line 3: bad"):
        run(lambda: raises(DataError("rows.jsonl, line 3: bad")))
    with pytest.raises(SystemExit, match=r"error: .*No space left on device: 'models/base'"):
        run(lambda: raises(OSError(errno.ENOSPC, "No space left on device", "models/base")))


def test_a_defect_is_not_hidden_and_wrong_arguments_show_the_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(task: str) -> None:
        raise TypeError(f"a defect in {task}")

    monkeypatch.setattr("sys.argv", ["src/train.py"])
    with pytest.raises(SystemExit, match=r"usage: python src/train\.py TASK"):
        run(work)
    monkeypatch.setattr("sys.argv", ["src/train.py", "xsum"])
    with pytest.raises(TypeError, match="a defect in xsum"):
        run(work)


def test_versions_name_the_libraries_that_numbers_depend_on() -> None:
    assert versions().keys() >= {"python", "torch", "transformers", "peft"}
