"""What a killed DVC leaves is put right by tools/recover.py; what is right, or at work, is left alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from laboratory import REPOSITORY

PATIENCE = 60  # seconds until a test that waits for another process gives up
DVC_YAML = """stages:
  one:
    cmd: python -c "import time; time.sleep(600)"
    deps: [code.txt]
    params: [a]
    outs: [out.txt]
"""


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, check=True
    ).stdout


def recover(folder: Path) -> str:
    return run(folder, sys.executable, str(REPOSITORY / "tools/recover.py"))


def test_a_path_that_dvc_would_only_call_missing_is_explained(project: Path) -> None:
    settings = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    (project / "src/sapo").mkdir(parents=True)
    (project / "src/sapo/config.py").touch()
    for path, told in (
        ("~/my_tasks", "~ is not expanded: write the whole path, or ${oc.env:HOME}/my_tasks"),
        ("/data/my_tasks", ""),
    ):
        own = settings.replace(
            "source: embedded\n  path: src/sapo/data/tasks", f"source: folder\n  path: {path}"
        )
        assert own != settings
        (project / "params.yaml").write_text(own, encoding="utf-8")
        command = [sys.executable, str(REPOSITORY / "tools/recover.py")]
        done = subprocess.run(command, cwd=project, text=True, capture_output=True)
        assert (done.returncode, told in done.stderr) == (bool(told), True)
        assert done.stderr.count("\n") == bool(told)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with one stage that never ends, and a dvc.lock as DVC writes it."""
    (tmp_path / "conf").mkdir()
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    files = {
        "conf/config.yaml": "a: 1\n",
        "params.yaml": "a: 1\n",
        "code.txt": "committed\n",
        "dvc.yaml": DVC_YAML,
    }
    files |= {
        ".gitignore": "/out.txt\n",
        ".dvc/config": "[hydra]\n    enabled = true\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
    }
    files["dvc.lock"] = (REPOSITORY / "dvc.lock").read_text()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    run(tmp_path, "git", "init", "-q", "-b", "work")
    run(tmp_path, "git", "config", "user.name", "test")
    run(tmp_path, "git", "config", "user.email", "test@example.org")
    run(tmp_path, "git", "add", "-A")
    run(tmp_path, "git", "commit", "-qm", "start")
    return tmp_path


def test_nothing_is_said_and_nothing_touched_where_nothing_is_wrong(project: Path) -> None:
    (project / ".dvc/tmp/rwlock").write_text("{}")
    (project / "code.txt").write_text("edited\n")
    run(project, "git", "checkout", "-q", "--detach")  # the user's own wish
    assert recover(project) == ""
    assert run(project, "git", "status", "--short", "--branch") == "## HEAD (no branch)\n M code.txt\n"


def test_locks_of_dead_processes_go_even_when_another_has_their_number(project: Path) -> None:
    """DVC looks for a process of that number, and finds one after a restart of the machine."""
    lock = project / ".dvc/tmp/rwlock"
    entry = {"pid": os.getpid(), "cmd": "dvc repro"}
    lock.write_text(json.dumps({"write": {str(project / "out.txt"): entry}, "read": {}}))
    busy = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=project, text=True, capture_output=True)
    assert "is busy" in busy.stderr
    assert "rwlock: removed" in recover(project)
    assert not lock.exists()


@pytest.mark.parametrize("cut", ["", '{"read": {"/tm'])
def test_a_table_of_locks_that_was_cut_off_goes(project: Path, cut: str) -> None:
    (project / ".dvc/tmp/rwlock").write_text(cut)
    assert "rwlock: removed" in recover(project)
    assert not (project / ".dvc/tmp/rwlock").exists()


@pytest.mark.parametrize("end", ["", "schema: '2", "schema: '2.0'\nsta", "outs:\n    - pa"])
def test_a_lock_file_that_was_cut_off_is_the_committed_one_again(project: Path, end: str) -> None:
    lock = project / "dvc.lock"
    whole = lock.read_text()
    lock.write_text(whole[: whole.index(end) + len(end)])
    assert "dvc.lock was cut off" in recover(project)
    assert lock.read_text() == whole


@pytest.mark.parametrize("end", ["cmd: pyth", "md5: ", "size: 1"])
def test_dvc_can_read_what_is_left_of_a_lock_file_that_was_cut_off_where_it_still_has_a_meaning(
    project: Path, end: str
) -> None:
    """DVC empties the file and writes it anew, so it may end anywhere; what is lost is in the run-cache."""
    lock = project / "dvc.lock"
    whole = lock.read_text()
    lock.write_text(whole[: whole.index(end) + len(end)])
    recover(project)
    assert run(project, "dvc", "stage", "list", "--name-only") == "one\n"


def test_a_whole_lock_file_of_another_run_is_left_alone(project: Path) -> None:
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text().replace("seed: 1", "seed: 2"))
    assert recover(project) == ""
    assert "seed: 2" in lock.read_text()


def test_a_lock_file_that_was_cut_off_and_never_committed_goes(project: Path) -> None:
    run(project, "git", "rm", "-q", "--cached", "dvc.lock")
    run(project, "git", "commit", "-qm", "no lock")
    lock = project / "dvc.lock"
    lock.write_text("schema: '2")
    assert "dvc.lock" in recover(project)
    assert not lock.exists()


def test_partial_outputs_of_a_killed_stage_go(project: Path) -> None:
    for name in (
        "models/.base.partial/model.safetensors",
        "metrics/scores/base.json.1-1.partial",
        "data/kept.json",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("half")
    recover(project)
    assert [path.name for path in project.glob("[dm][ae]*/**/*") if path.is_file()] == ["kept.json"]


def test_after_a_killed_experiment_the_branch_and_the_edits_are_back(project: Path) -> None:
    (project / "code.txt").write_text("edited\n")
    log = project / ".dvc/tmp/log"
    with log.open("w") as stream:
        command = [sys.executable, "-m", "dvc", "exp", "run", "-S", "a=2"]
        experiment = subprocess.Popen(command, cwd=project, stdout=stream, stderr=stream)
    end = time.monotonic() + PATIENCE
    while "Running stage" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    assert "(process " in recover(project)  # at work: nothing is touched
    assert run(project, "git", "rev-parse", "--abbrev-ref", "HEAD") == "HEAD\n"
    below = psutil.Process(experiment.pid).children(recursive=True)
    experiment.kill()
    experiment.wait()
    for process in below:
        process.kill()
    (project / "code.txt").write_text(
        "edi"
    )  # as when it is killed a little earlier, while it brings the edits back
    said = recover(project)
    assert "HEAD is on branch work again" in said
    assert "code.txt: your uncommitted changes are back" in said
    assert run(project, "git", "status", "--short", "--branch").startswith("## work\n M code.txt\n")
    assert (project / "params.yaml").read_text() == "a: 2\n"
    assert (project / "code.txt").read_text() == "edited\n"
    assert recover(project) == ""
