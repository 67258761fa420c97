"""A stage's progress: a bar in a terminal, a line every half minute elsewhere."""

import os
import pty
import re
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from laboratory import REPOSITORY
from sapo.runtime import progress as module
from sapo.runtime.progress import progress

STAGE = """
import time
from sapo.runtime.progress import progress
with progress("after xsum", 40, "row") as stage:
    for name in ("reuters", "xsum"):
        with progress(name, 20, "row") as part:
            for row in range(20):
                part.note(f"loss {row / 10:.3f}")
                part.update()
                time.sleep(0.03)
        stage.say(f"{name} is done")
"""
LINE = re.compile(r"after xsum: (reuters|xsum): (\d+)/40, loss \d\.\d{3}, \d+\.\d\drow/s, \d\d:\d\d to go")


class Clock:
    """Seconds that pass when told so."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def in_terminal(code: str) -> str:
    """What a terminal gets from a Python process."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 100))
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=its, stderr=its, env=environment)
    os.close(its)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # what the end of a terminal is on Linux
        pass
    os.close(ours)
    assert child.wait() == 0, said.decode()
    return said.decode()


def test_in_a_terminal_one_bar_is_drawn_again_and_again_and_lines_stand_above_it() -> None:
    said = in_terminal(STAGE)
    lines = said.replace("\r\n", "\n").rstrip("\n").split("\n")
    assert len(lines) == 3  # two that are said, and the bar as it ended
    drawn = [[state.strip() for state in line.split("\r") if state.strip()] for line in lines]
    assert [states[-1] for states in drawn[:2]] == ["reuters is done", "xsum is done"]
    assert re.match(r"after xsum: xsum: 100%\|█+\| 40/40, loss 1\.900, ", drawn[2][-1])
    states = [state for line in drawn for state in line if "|" in state]
    assert len(states) > 3
    assert any(state.startswith("after xsum: reuters: ") for state in states)
    assert all("row/s, " in state and state.endswith(" to go") for state in states[1:])
    assert not module.tqdm._instances


def test_without_a_terminal_there_is_a_line_every_half_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("after xsum", 40, "row") as stage:
        for name in ("reuters", "xsum"):
            with progress(name, 20, "row") as part:
                for row in range(20):
                    clock.now += 5
                    part.note(f"loss {row / 10:.3f}")
                    part.update()
            stage.say(f"{name} is done")
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["reuters is done", "xsum is done"]
    lines = [LINE.fullmatch(line) for line in printed.err.splitlines()]
    assert all(lines), printed.err
    assert len(lines) == 6  # of 200 seconds
    counts = [int(line[2]) for line in lines if line]
    assert counts == sorted(set(counts))
    assert "\r" not in printed.err


def test_a_short_stage_without_a_terminal_prints_no_line() -> None:
    command = [sys.executable, "-c", STAGE]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("reuters is done\nxsum is done\n", "")


def test_a_part_in_another_unit_names_itself_and_does_not_count(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("xsum, seed 1", 21, "wording", done=3) as stage:
        with progress("training", 24, "step") as part:
            part.update(24)
            clock.now += 31
            part.note("loss 0.312")
        stage.update()
        clock.now += 31
        with progress("xsum (own)", 48, "row"):
            pass
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("xsum, seed 1: training: 3/21, loss 0.312, ")
    assert second.startswith("xsum, seed 1: xsum (own): 4/21, ")


def test_bytes_of_unknown_number_are_counted_from_any_thread(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("fetching 2 files", None, "B") as bar:
        threads = [threading.Thread(target=lambda: [bar.update(1000) for _ in range(500)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clock.now += 31
        bar.update(0)
    assert capsys.readouterr().err.startswith("fetching 2 files: 2.00M, ")


def test_the_main_process_alone_shows_it(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with progress("training", 2, "step") as bar:
        clock.now += 31
        bar.update()
    assert capsys.readouterr() == ("", "")


def test_a_stage_that_fails_leaves_no_bar_behind(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), progress("first", 1, "row"):
        raise ZeroDivisionError
    with progress("second", 1, "row") as bar:
        clock.now += 31
        bar.update()
    assert capsys.readouterr().err.startswith("second: 1/1, ")


def test_stages_have_no_other_bars() -> None:
    for path in (REPOSITORY / "src").rglob("*.py"):
        assert "tqdm" not in path.read_text(encoding="utf-8") or path == Path(module.__file__), path
