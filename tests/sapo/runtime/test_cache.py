"""The folder of downloads that all checkouts share: where it is, and one process at a time in each place."""

import subprocess
import sys
from pathlib import Path

import pytest

from laboratory import REPOSITORY
from sapo.runtime.cache import alone, cache_folder

ENVIRONMENT = {"PYTHONPATH": str(REPOSITORY / "src")}
MAKE = """
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
HOLD = """
import sys
from pathlib import Path
from sapo.runtime.cache import alone
with alone(Path(sys.argv[1])):
    print("here", flush=True)
    sys.stdin.read()
    Path(sys.argv[1]).touch()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_two_processes_make_at_once_is_made_by_one_and_a_killed_one_keeps_nobody_out(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", MAKE, str(tmp_path / "new/target")]
    assert subprocess.run([*command, "dies"], env=ENVIRONMENT, check=False).returncode == 9
    several = [
        subprocess.Popen([*command, "lives"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    printed = "".join(process.communicate()[0] for process in several)
    assert [process.returncode for process in several] == [0] * 4
    assert printed.count("made it") == 1
    assert names(tmp_path / "new") == [".target.lock", "target"]


def test_one_who_waits_says_for_what_and_finds_what_the_other_has_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    command = [sys.executable, "-c", HOLD, str(target)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=ENVIRONMENT, text=True, **pipes) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "here\n"
        with alone(tmp_path / "another"):
            assert not target.exists()  # nobody waits for another place
        assert capsys.readouterr().out == ""
        waiting = subprocess.Popen(
            [sys.executable, "-c", MAKE, str(target), "lives"],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        with waiting:
            assert waiting.stdout
            assert waiting.stdout.readline() == f"waiting for another process that makes {target}\n"
            other.stdin.close()
            assert waiting.stdout.read() == ""  # it had nothing left to make
    assert target.exists()


def test_an_error_inside_lets_the_next_one_in(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), alone(tmp_path / "target"):
        raise RuntimeError
    done = subprocess.run(
        [sys.executable, "-c", MAKE, str(tmp_path / "target"), "lives"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == "made it\n"


def test_the_folder_is_the_environment_s_or_below_the_user_s_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("SAPO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/someone/.cache/sapo")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/sapo")
    monkeypatch.setenv("SAPO_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
