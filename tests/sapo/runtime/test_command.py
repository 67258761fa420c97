"""What is around every stage's work: its arguments, and one line for an error."""

import errno
from functools import partial
from pathlib import Path

import pytest

from sapo.runtime.command import one_line, run
from sapo.runtime.errors import ArtifactError, DataError, MixedRunsError, OtherRunError


def raises(error: Exception) -> None:
    raise error


def test_unusable_input_and_a_full_disk_end_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["src/x.py"])
    with pytest.raises(SystemExit, match=r"^error: rows\.jsonl, line 3: bad$"):
        run(lambda: raises(DataError("rows.jsonl, line 3: bad")))
    full = OSError(errno.ENOSPC, "No space left on device", "models/base")
    with pytest.raises(
        SystemExit, match=r"^error: .*No space left on device: 'models/base': free space there and"
    ):
        run(lambda: raises(full))


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            ArtifactError("x is missing"),
            r"^error: x is missing; run the stage that writes it \(`dvc repro`\)",
        ),
        (
            ArtifactError("x is gone", stage="base_model"),
            "^error: x is gone; `dvc repro -f base_model` makes it anew$",
        ),
        (OtherRunError("x is odd"), "^error: x is odd; run `dvc repro`$"),
        (MixedRunsError("x is odd"), "^error: x is odd; `dvc repro -f` makes all of them anew$"),
    ],
)
def test_an_error_of_the_pipeline_s_own_files_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    monkeypatch.setattr("sys.argv", ["src/x.py"])
    with pytest.raises(SystemExit, match=advice):
        run(lambda: raises(error))


def test_a_full_cache_and_one_that_cannot_be_written_may_be_moved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["src/x.py"])
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path))
    for number, first in ((errno.ENOSPC, "free space there"), (errno.EACCES, "make it writable")):
        for path, moved in ((tmp_path / "file", True), (Path("models/base"), False)):
            work = partial(raises, OSError(number, "no", str(path)))
            with pytest.raises(SystemExit, match=first) as caught:
                run(work)
            assert ("set SAPO_CACHE to a folder elsewhere" in str(caught.value)) == moved


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb", "a; b"),
        ("names these:\n  a,\n  b.\nThen", "names these: a, b. Then"),
        ("\ttab \x1b[31mred\x1b[0m\r\nend\n", "tab \\x1b[31mred\\x1b[0m; end"),
        ("支持 🙂", "支持 🙂"),
    ],
)
def test_an_error_of_several_lines_is_told_in_one(text: str, line: str) -> None:
    assert one_line(text) == line


def test_a_defect_is_not_hidden_and_wrong_arguments_show_the_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(task: str) -> None:
        """Do it."""
        raise TypeError(f"a defect in {task}")

    for arguments in ([], ["xsum", "more"]):
        monkeypatch.setattr("sys.argv", ["src/train.py", *arguments])
        with pytest.raises(SystemExit) as caught:
            run(work)
        assert caught.value.code == 2
        assert "usage: train.py [-h] TASK\n" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["src/train.py", "xsum"])
    with pytest.raises(TypeError, match="a defect in xsum"):
        run(work)
