"""tools/grid.py's own code with real Ray and a pipeline that needs no model: what runs once, what goes on."""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from grids import at_work, small_cell, small_pipeline
from laboratory import run
from sapo.grid.axes import Cell
from sapo.grid.command import Options, grid

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-grid.txt")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(small_pipeline(tmp_path / "lab"))
    return tmp_path / "lab"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Asks for these cells: the settings of a small pipeline are not those that `cells` checks."""

    def ask(*cells: Cell) -> None:
        monkeypatch.setattr("sapo.grid.command.cells", lambda *options: list(cells))

    return ask


def stages_run(folder: Path) -> list[str]:
    logs = "".join(path.read_text(encoding="utf-8") for path in (folder / ".grid/logs").glob("*.log"))
    return sorted(re.findall(r"Running stage '([^']+)'", logs))


def test_what_comes_after_the_same_rows_runs_once(
    lab: Path,
    asked: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two cells make their rows each, as two sequences do; one part of the rows is the same."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # without --address Ray starts here all the same
    asked(small_cell("one"), small_cell("other", more=1))
    assert grid(Options((), dry=True)) == 0
    assert "or fewer: which first tasks several sequences have in common" in capsys.readouterr().out
    assert grid(Options(())) == 0
    told = capsys.readouterr().out
    assert "2 of 2 cells finished" in told
    assert stages_run(lab) == ["part@a", "part@b", "part@b", "rows", "rows", "whole", "whole"]
    assert "stages run: 7" in told
    assert set(run(lab, "dvc", "exp", "list", "--name-only").split()) == {"one", "other"}

    for left in ("one", "shared-rows"):  # by a driver that was killed
        (lab / ".grid/cells" / left).mkdir()
    assert grid(Options(())) == 0
    assert list((lab / ".grid/cells").glob("*")) == []
    assert "all cells were done before: 2 of 2" in capsys.readouterr().out
    asked(small_cell("one"), small_cell("other", more=1), small_cell("third", more=2))
    assert grid(Options(())) == 0
    assert stages_run(lab).count("part@a") == 1
    assert list((lab / ".grid/cells").glob("*")) == []
    assert at_work(lab / ".grid") == []


def test_rows_that_fail_are_told_once_and_leave_the_other_cells_alone(
    lab: Path, asked: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    asked(small_cell("one"), small_cell("bad", rows=-1))
    assert grid(Options(())) == 1
    told = capsys.readouterr().out
    assert told.count("failed: error: no rows") == 1
    assert "bad did not run: it waits for shared-rows" in told
    assert "1 of 2 cells finished" in told
    assert stages_run(lab) == ["part@a", "part@b", "rows", "rows", "whole"]
    assert run(lab, "dvc", "exp", "list", "--name-only").split() == ["one"]


@pytest.mark.parametrize("victim", ["work", "worker"])
def test_a_process_that_dies_is_replaced_on_the_same_node(
    lab: Path, asked: Callable[..., None], victim: str
) -> None:
    asked(small_cell("one"))
    killed = list[int]()
    log = lab / ".grid/logs/one.log"

    def kill() -> None:
        me, end = psutil.Process(), time.monotonic() + 120
        while not killed and time.monotonic() < end:
            with suppress(psutil.Error):
                found = [
                    process for process in me.children(recursive=True) if "sapo.grid.work" in line(process)
                ]
                waiting = [process for process in found if process.parent() not in found]
                working = [process for process in found if process.parent() in found]
                if working and log.exists() and ": dvc exp run" in log.read_text(encoding="utf-8"):
                    chosen = working[0] if victim == "work" else waiting[0].parent()
                    assert chosen
                    chosen.kill()
                    killed.append(chosen.pid)
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    status = grid(Options(()))
    killer.join()
    assert killed
    assert status == 0
    assert log.read_text(encoding="utf-8").count(": dvc exp run") == 2
    assert run(lab, "dvc", "exp", "list", "--name-only").split() == ["one"]
    assert at_work(lab / ".grid") == []


def line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
