"""A unit's process ends all that it started when the one who gave it the job is gone."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from grids import small_cell, small_pipeline, wait_for
from laboratory import REPOSITORY, run
from sapo.artifacts.versions import versions
from sapo.grid.cluster import check_node, start_process
from sapo.grid.command import program
from sapo.grid.driver import processes
from sapo.grid.lifeline import SIGN, Heart, sign
from sapo.grid.pipeline import Sources, closure, git, stages
from sapo.grid.repository import fetch, ref_of
from sapo.grid.work import THREADS, Job, do, environment, follow, other_than, probe, why
from sapo.runtime.errors import DataError
from sapo.runtime.watchdog import alive

LAST = 20  # seconds in which a process must have ended


def job(tmp_path: Path, **changes: object) -> Job:
    content = {
        **{"name": "one", "repository": str(tmp_path), "folder": str(tmp_path / ".grid"), "cache": "/cache"},
        **{"head": "h", "tree": "h", "final": True, "overrides": (), "params": "", "file": "dvc.yaml"},
        **{"threads": 3, "gpus": 0, "sign": "/sign", "versions": versions(), "stages": [], "keys": ()},
    }
    return Job(**(content | changes))  # type: ignore[arg-type]


def test_threads_are_bounded_and_stages_import_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/src{os.pathsep}/mine")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    found = environment(job(tmp_path))
    assert {found[name] for name in THREADS} == {"3"}
    assert found["PYTHONPATH"] == "/mine"
    assert found["PATH"].startswith(str(Path(sys.executable).parent))
    assert found["DVC_SITE_CACHE_DIR"].startswith(str(job(tmp_path).clone))
    assert found["CUDA_VISIBLE_DEVICES"] == ""  # a cell that asked for no GPU sees none
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # as Ray does
    assert environment(job(tmp_path, gpus=1))["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/src")
    assert "PYTHONPATH" not in environment(job(tmp_path))


@pytest.mark.parametrize(
    ("command", "count"),
    [
        ("python", 1),
        ("accelerate launch --multi_gpu --num_machines 1 --num_processes 2 --dynamo_backend no", 2),
        ("accelerate launch --num_processes=8", 8),
    ],
)
def test_the_processes_of_a_cell_share_its_cores(command: str, count: int) -> None:
    assert processes(command) == count


def test_stages_are_timed_and_the_log_is_kept(tmp_path: Path) -> None:
    script = tmp_path / "told.py"
    script.write_text(
        "import sys, time\n"
        "print(\"Running stage 'one':\", flush=True)\n"
        "time.sleep(0.3)\n"
        "print(\"Running stage 'study/dvc.yaml:two':\", flush=True)\n"
        "print('error: no rows', file=sys.stderr)\n"
        "print(\"ERROR: failed to reproduce 'two'\")\n"
        "sys.exit(3)\n"
    )
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    log = tmp_path / "one.log"
    status, lines, seconds = follow(["told", "repro"], tmp_path, variables, log)
    assert status == 3
    assert why(lines) == "error: no rows"
    assert list(seconds) == ["one", "two"]
    assert seconds["one"] > 0.2
    follow(["told", "repro"], tmp_path, variables, log)
    assert log.read_text().count("error: no rows") == 2
    assert log.read_text().startswith("--- ")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["ERROR: failed to reproduce", "more"], "ERROR: failed to reproduce"),
        (["error: a", "error: b", "ERROR: c"], "error: b"),
        (["nothing of note"], ""),
    ],
)
def test_the_line_that_tells_most(lines: list[str], told: str) -> None:
    assert why(lines) == told


GIVER = """import json, subprocess, sys, time
process = subprocess.Popen([sys.executable, "-m", "sapo.grid.work"], stdin=subprocess.PIPE, text=True)
process.stdin.write(json.dumps({"sign": "FOLDER/alive-1"}) + "\\n")
process.stdin.flush()
time.sleep(600)
"""
# In place of a unit: starts what would be DVC, which starts what would be a stage
WORK = """import sys
from sapo.grid import lifeline, work
from pathlib import Path
here = Path(sys.argv[1])
lifeline.BEAT, lifeline.SILENCE = 0.1, float(sys.argv[2])
work.do = lambda job: work.follow(["sleeper"], here, {"PYTHONPATH": str(here)}, here / "log")
work.Job = lambda **content: None
work.main()
"""


@pytest.mark.parametrize("what", ["giver killed", "driver silent", "driver gone"])
def test_all_ends_when_nobody_waits_for_it(tmp_path: Path, what: str) -> None:
    silence = 5 if what == "driver silent" else 600
    (tmp_path / "sleeper.py").write_text("import subprocess; subprocess.run(['sleep', '599'])\n")
    (tmp_path / "work.py").write_text(WORK)
    giver = GIVER.replace('"-m", "sapo.grid.work"', f'"{tmp_path}/work.py", "{tmp_path}", "{silence}"')
    giver = giver.replace("FOLDER", str(tmp_path))
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    (tmp_path / "alive-1").touch()
    process = psutil.Popen([sys.executable, "-c", giver], env=variables)
    end = time.monotonic() + 60
    while not any("599" in child.cmdline() for child in process.children(recursive=True)):
        assert time.monotonic() < end
        (tmp_path / "alive-1").touch()
        time.sleep(0.1)
    started = process.children(recursive=True)
    assert len(started) == 4  # the unit's two, DVC, a stage
    if what == "driver gone":
        (tmp_path / "alive-1").unlink()
    elif what == "giver killed":
        (child,) = process.children()
        process.kill()
        child.kill()  # as Ray does
    end = time.monotonic() + LAST
    while left := [child for child in started if alive(child)]:
        assert time.monotonic() < end, left
        time.sleep(0.1)
    process.kill()


def test_a_probe_tells_what_the_driver_compares(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "mark").touch()
    assert probe(tmp_path, [tmp_path], "mark") == {"versions": versions(), "fault": ""}
    assert {path.name for path in tmp_path.iterdir()} == {".git", "mark"}
    found = probe(tmp_path, [tmp_path, tmp_path / "nowhere"], "mark")
    assert f"cannot write {tmp_path}/nowhere: No such file or directory" in found["fault"]


def test_a_node_with_a_cache_or_a_repository_of_its_own_says_so(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert f"has another {tmp_path} than the driver" in probe(tmp_path, [tmp_path], "mark")["fault"]
    assert "does not see the repository" in probe(tmp_path / "nowhere", [], "mark")["fault"]


def test_the_process_answers_in_one_line(tmp_path: Path) -> None:
    question = json.dumps({"repository": str(REPOSITORY), "probe": [], "mark": ""})
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    with subprocess.Popen(
        [sys.executable, "-m", "sapo.grid.work"], env=variables, stdin=-1, stdout=-1, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(question + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"versions": versions(), "fault": ""}
        assert process.wait(LAST) == 0


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(small_pipeline(tmp_path / "lab"))
    return tmp_path / "lab"


def unit(lab: Path, final: bool, *names: str, remote: str = "", **values: int) -> Job:
    """A job for these stages of a cell, or for the cell itself."""
    cell, head = small_cell("cell", **values), git("rev-parse", "HEAD")
    of = stages(cell, Sources(head))
    own = [key for key, stage in of.items() if stage.name in names]
    return job(
        lab,
        **{"name": "cell" if final else "shared", "final": final, "head": head, "tree": head, "threads": 1},
        **{"folder": str(lab / ".grid"), "cache": str(lab / ".dvc/cache"), "params": cell.text},
        **{"overrides": cell.overrides, "keys": tuple(own), "remote": remote},
        stages=[asdict(of[key]) for key in (of if final else closure(own, of))],
    )


def test_shared_stages_run_once_and_a_cell_ends_with_its_experiment(lab: Path) -> None:
    shared = do(unit(lab, False, "rows", "part@a", "part@b"))
    assert shared.error == ""
    assert set(shared.seconds) == {"rows", "part@a", "part@b"}
    cell = do(unit(lab, True, "whole", seed=7))
    assert (cell.error, set(cell.seconds)) == ("", {"whole"})
    clone = unit(lab, True).clone
    ref = ref_of(git("rev-parse", "HEAD"), "cell")
    assert json.loads(git("-C", str(clone), "show", f"{ref}:metrics.json")) == {"AP": 7}
    fetch(clone, git("rev-parse", "HEAD"), "cell")
    assert "cell" in run(lab, "dvc", "exp", "list", "--name-only")
    again = do(unit(lab, True, "whole", seed=7))
    assert (again.error, again.seconds) == ("", {})  # what is finished comes from the cache

    run(lab, "dvc", "exp", "run", "--name", "plain", "-S", "seed=7")
    plain = run(lab, "git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/plain").strip()
    assert git("diff", "--stat", plain, ref) == ""


@pytest.mark.parametrize("remote", ["", "store"])
def test_results_that_are_locked_and_missing_are_made_once(lab: Path, remote: str) -> None:
    """As in a clone of a repository with a dvc.lock, before `dvc pull`."""
    run(lab, "dvc", "remote", "add", "store", str(lab.parent / "store"))
    run(lab, "dvc", "repro")
    run(lab, "git", "add", "-A")
    run(lab, "git", "commit", "-qm", "locked")
    shutil.rmtree(lab / ".dvc/cache")
    shared = do(unit(lab, False, "rows", "part@a", "part@b", remote=remote))
    assert (shared.error, set(shared.seconds)) == ("", {"rows", "part@a", "part@b"})
    cell = do(unit(lab, True, "whole", seed=7, remote=remote))
    assert (cell.error, set(cell.seconds)) == ("", {"whole"})


def test_what_is_locked_and_in_the_cache_is_not_made_again(lab: Path) -> None:
    run(lab, "dvc", "repro")
    run(lab, "git", "add", "-A")
    run(lab, "git", "commit", "-qm", "locked")
    shutil.rmtree(lab / ".dvc/cache/runs")
    outcome = do(unit(lab, False, "rows", "part@a", "part@b"))
    assert (outcome.error, set(outcome.seconds)) == ("", {"rows"})


def test_without_a_common_cache_results_come_from_a_remote_and_go_there(lab: Path) -> None:
    run(lab, "dvc", "remote", "add", "store", str(lab.parent / "store"))
    run(lab, "git", "commit", "-qam", "a remote")
    shared = do(unit(lab, False, "rows", "part@a", "part@b", remote="store"))
    assert (shared.error, set(shared.seconds)) == ("", {"rows", "part@a", "part@b"})
    shutil.rmtree(unit(lab, False).clone)
    cell = do(unit(lab, True, "whole", seed=7, remote="store"))
    assert (cell.error, set(cell.seconds)) == ("", {"whole"})
    fetch(unit(lab, True).clone, git("rev-parse", "HEAD"), "cell")
    shutil.rmtree(unit(lab, True).clone)
    assert not list((lab / ".dvc/cache/files").rglob("*"))
    assert "Checkout failed" in run(lab, "dvc", "exp", "apply", "cell", fails=True)  # docs/grid.md
    run(lab, "dvc", "pull", "--remote", "store", "--allow-missing")
    assert (lab / "model.txt").read_text().startswith("7 ")


def test_a_stage_that_fails_is_told_with_the_end_of_its_log(lab: Path) -> None:
    outcome = do(unit(lab, True, "whole", seed=13))
    assert outcome.error == "error: 13 brings bad luck"
    assert any("failed to reproduce 'whole'" in line for line in outcome.tail)
    assert "13 brings bad luck" in unit(lab, True).log.read_text()
    clone = unit(lab, True).clone
    assert run(clone, "git", "for-each-ref", "refs/exps/*/*/cell") == ""


def test_one_attempt_at_a_time(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sapo.grid.work.PATIENCE", 0.2)
    wanted = unit(lab, True, "whole")
    wanted.log.parent.mkdir(parents=True)
    with FileLock(wanted.log.with_suffix(".lock")):
        assert "another process works on cell: it did not end" in do(wanted).error


def test_a_node_with_other_versions_runs_nothing(tmp_path: Path) -> None:
    ours = versions()
    theirs = {**ours, "torch": "0.1"}
    outcome = do(job(tmp_path, versions=theirs))
    assert outcome.unfit
    assert f"has other versions: torch {ours['torch']} instead of 0.1" in outcome.error
    assert not job(tmp_path).log.exists()
    with pytest.raises(DataError, match=r"node one has other versions: torch 0\.1 instead of"):
        check_node("one", {"versions": theirs, "fault": ""}, ours)
    with pytest.raises(DataError, match="node one cannot write /c"):
        check_node("one", {"versions": ours, "fault": "cannot write /c: Permission denied"}, ours)
    assert other_than(ours, versions()) == ""


def test_a_node_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"it does not see .*/program: give --folder"):
        start_process("{}", f"{tmp_path}/program")


def test_what_the_driver_runs_is_copied_whole(tmp_path: Path) -> None:
    source = program(tmp_path)
    question = {"repository": str(REPOSITORY), "probe": [], "mark": ""}
    told = start_process(json.dumps(question), str(source))
    assert json.loads(told) == {"versions": versions(), "fault": ""}
    (source / "sapo/grid/work.py").write_text("raise SystemExit('half written')")
    with pytest.raises(RuntimeError, match="half written"):
        start_process("{}", str(source))
    assert program(tmp_path) == source  # anew
    assert "half" not in (source / "sapo/grid/work.py").read_text()


def test_a_fault_of_the_program_itself_is_told_with_where_it_is(tmp_path: Path) -> None:
    source = program(tmp_path)
    with Heart(tmp_path) as heart:
        broken = asdict(job(tmp_path, sign=str(heart.path), stages=[{"unknown": 1}]))
        told = json.loads(start_process(json.dumps(broken), str(source)))
    assert told["error"].startswith("TypeError: ")
    assert any("work.py" in line and "in run" in line for line in told["tail"])


def test_a_log_that_cannot_be_written_ends_what_it_is_of(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text("import time\nprint('x' * 10000, flush=True)\ntime.sleep(600)\n")
    with pytest.raises(OSError, match="No space left"):
        follow(["told"], tmp_path, {**os.environ, "PYTHONPATH": str(tmp_path)}, Path("/dev/full"))
    assert not [process for process in psutil.Process().children() if "told" in process.cmdline()]


def test_a_driver_shows_that_it_lives_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sapo.grid.lifeline.BEAT", 0.05)
    with Heart(tmp_path) as killed:
        with Heart(tmp_path) as heart:
            assert list(tmp_path.glob(f"{SIGN}*")) == [heart.path]  # an earlier driver's is gone
            assert killed.path != heart.path
            first = sign(heart.path)
            wait_for(lambda: sign(heart.path) != first, 10)
        assert list(tmp_path.iterdir()) == []
