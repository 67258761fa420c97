"""tools/grid.py with real Ray and the tiny model: what runs, what it becomes, what faults leave."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from grids import PATIENCE, at_work, once, outputs, training, wait_for
from laboratory import STUDY, commit, copy_of, environment, experiment, new_project, run, settings
from sapo.grid.cluster import SCRATCH

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-grid.txt")
END = 30  # seconds in which all that a killed grid started must have ended
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # they see late that their Ray is gone:
LONGER = 60  # seconds after which they look
METHODS = "method=lora_inc,olora"
NAMES = ["lora_inc", "olora"]


@pytest.fixture
def lab(tiny_project: Path, tmp_path: Path) -> Path:
    """A repository with one run behind it, all committed."""
    folder = copy_of(tiny_project, tmp_path / "lab")
    commit(folder, "baseline")
    return folder


@pytest.fixture(scope="module")
def plain(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What each output is in the experiments of `dvc exp run`, one after another, by experiment and path."""
    folder = copy_of(tiny_project, tmp_path_factory.mktemp("plain") / "lab")
    commit(folder, "baseline")
    for name in NAMES:
        experiment(folder, f"method={name}", options=("--name", name))
    return {name: outputs(folder, name) for name in NAMES}


def grid(folder: Path, *options: str, fails: bool = False, axes: tuple[str, ...] = (METHODS,)) -> str:
    return run(folder, sys.executable, "tools/grid.py", *once(*axes), *options, fails=fails)


def stages_run(folder: Path) -> list[str]:
    """The stages that ran, by the logs: several times where several cells ran one."""
    logs = "".join(path.read_text(encoding="utf-8") for path in (folder / ".grid/logs").glob("*.log"))
    return re.findall(r"Running stage '([^']+)'", logs)


def left(folder: Path) -> list[str]:
    """What a grid must not leave: clones, processes that work in them, Ray's folders."""
    clones = [str(path) for path in (folder / ".grid/cells").glob("*")]
    scratch = Path(tempfile.gettempdir()).glob(f"{SCRATCH}[0-9]*-*")
    ended = [str(path) for path in scratch if not psutil.pid_exists(int(path.name.split("-")[2]))]
    return clones + ended + [" ".join(process.cmdline()) for process in at_work(folder)]


def test_a_grid_is_what_its_experiments_are_alone(lab: Path, plain: dict[str, dict[str, str]]) -> None:
    assert "cells: 2, 0 done already" in grid(lab, "--dry")
    assert not (lab / ".grid/cells").exists()
    before = run(lab, "git", "status", "--porcelain")
    told = grid(lab)
    assert "2 of 2 cells finished" in told
    assert {name: outputs(lab, name) for name in NAMES} == plain
    counted = stages_run(lab)
    # What the default method left in the cache does not run, nor twice what both cells need
    assert not {"prepare", "base_model", "zero_shot"} & set(counted)
    assert counted.count("train@reuters_r8") == len(NAMES)
    assert counted.count("select@reuters_r8") == 1
    assert left(lab) == []
    assert run(lab, "git", "status", "--porcelain") == before

    assert "all cells were done before: 2 of 2" in grid(lab)
    assert "olora is done already" in " ".join(grid(lab, "--dry").split())
    table = run(lab, sys.executable, "tools/compare.py", *NAMES)
    assert "lora_inc" in table
    run(lab, "dvc", "exp", "apply", "olora")
    assert json.loads((lab / "metrics/details.json").read_text())["method"] == "olora"
    assert set(NAMES) <= set(run(lab, "dvc", "exp", "list", "--name-only").split())

    # docs/storage.md: what is safe
    keeps = ("gc", "--workspace", "--all-commits", "--all-experiments")
    run(lab, "dvc", *keeps, "--dry")
    run(lab, "dvc", *keeps, "--force")
    run(lab, "dvc", "exp", "apply", "lora_inc")
    assert json.loads((lab / "metrics/details.json").read_text())["method"] == "lora_inc"
    assert (lab / "models/xsum/adapter_model.safetensors").is_file()
    run(lab, "dvc", "exp", "remove", "olora")
    assert "olora" not in run(lab, "dvc", "exp", "list", "--name-only").split()
    run(lab, "dvc", "exp", "remove", "--all-commits")
    assert run(lab, "dvc", "exp", "list", "--name-only").strip() == ""


def test_a_cell_that_fails_does_not_stop_the_others(lab: Path) -> None:
    told = grid(lab, "--name", "rate", fails=True, axes=("method=olora", "train.learning_rate=0.01,1e30"))
    assert "1 of 2 cells finished" in told
    assert "rate-learning_rate1e+30 failed: error:" in told
    assert "lower train.learning_rate" in told
    log = re.search(r"the whole log: (\S+)", told)
    assert log
    assert "Running stage 'train@reuters_r8'" in Path(log[1]).read_text(encoding="utf-8")
    assert set(run(lab, "dvc", "exp", "list", "--name-only").split()) >= {"rate-learning_rate0.01"}
    assert "learning_rate1e" not in run(lab, "dvc", "exp", "list", "--name-only")
    assert at_work(lab) == []


@pytest.mark.long
def test_a_study_is_what_it_is_alone(lab: Path, tiny_project: Path, tmp_path: Path) -> None:
    told = run(lab, sys.executable, "tools/grid.py", "study", *once(*STUDY), "--name", "tiny")
    assert "1 of 1 cells finished" in told
    (name,) = (name for name in run(lab, "dvc", "exp", "list", "--name-only").split() if "study-tiny" in name)
    alone = copy_of(tiny_project, tmp_path / "alone")
    commit(alone, "baseline")
    run(alone, "dvc", "exp", "run", "--name", "study", *settings(*STUDY), "study/dvc.yaml")
    for file in ("dvc.lock", "study/dvc.lock"):
        assert outputs(lab, name, file) == outputs(alone, "study", file), file
    assert "study/dvc.yaml:study_report" in stages_run(lab)
    assert left(lab) == []


@pytest.mark.long
def test_a_cell_of_two_processes_is_what_it_is_alone(lab: Path, tiny_project: Path, tmp_path: Path) -> None:
    axes = ("method=olora", "launch=ddp")
    assert "1 of 1 cells finished" in grid(lab, "--cpus", "2", "--name", "two", axes=axes)
    (name,) = (name for name in run(lab, "dvc", "exp", "list", "--name-only").split() if "two-" in name)
    alone = copy_of(tiny_project, tmp_path / "alone")
    commit(alone, "baseline")
    experiment(alone, *axes, options=("--name", "two"))
    assert outputs(lab, name) == outputs(alone, "two")


def start(lab: Path, *options: str) -> subprocess.Popen[str]:
    """The grid of the two methods, under way, in a process group of its own."""
    log = (lab.parent / "driver.log").open("a")
    command = [sys.executable, "tools/grid.py", *once(METHODS, "train.epochs=20"), *options]
    return subprocess.Popen(
        command, cwd=lab, env=environment(), text=True, stdout=log, stderr=log, start_new_session=True
    )


@pytest.fixture(scope="module")
def undisturbed(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Outputs of the longer trainings that faults are tried on."""
    folder = copy_of(tiny_project, tmp_path_factory.mktemp("undisturbed") / "lab")
    commit(folder, "baseline")
    grid(folder, axes=(METHODS, "train.epochs=20"))
    return {name: outputs(folder, name) for name in NAMES}


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_ends_takes_all_with_it_and_the_same_command_goes_on(
    lab: Path, undisturbed: dict[str, dict[str, str]], number: signal.Signals
) -> None:
    refs = run(lab, "git", "show-ref")
    driver = start(lab)
    wait_for(lambda: training(lab))
    if number == signal.SIGINT:
        os.killpg(driver.pid, number)  # as a terminal does: to all that it sees
    else:
        driver.send_signal(number)
    driver.wait(END)
    told = (lab.parent / "driver.log").read_text()
    assert ("0 of 2 cells finished" in told) == (number != signal.SIGKILL)
    wait_for(lambda: all(process.name() in AGENTS for process in at_work(lab)), END)
    assert run(lab, "git", "show-ref") == refs  # nothing half-finished is there
    told = grid(lab, axes=(METHODS, "train.epochs=20"))
    assert "0 missing" in told
    assert {name: outputs(lab, name) for name in NAMES} == undisturbed
    logs = "".join(path.read_text(encoding="utf-8") for path in (lab / ".grid/logs").glob("*.log"))
    assert "goes on from checkpoint-" in logs
    wait_for(lambda: left(lab) == [], 2 * LONGER)


@pytest.fixture
def nodes() -> Iterator[Any]:
    """Ray with two nodes of one core each beside a head without any."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.mark.long
def test_a_node_that_dies_in_a_training_is_replaced_by_another(
    lab: Path, undisturbed: dict[str, dict[str, str]], nodes: Any
) -> None:
    driver = start(lab, "--address", nodes.address)
    clone = wait_for(lambda: training(lab)).parents[3]
    above = {parent.pid for process in at_work(clone) for parent in process.parents()}
    node = next(node for node in nodes.worker_nodes if {info.process.pid for info in raylets(node)} & above)
    nodes.remove_node(node, allow_graceful=False)
    assert driver.wait(PATIENCE * 4) == 0, (lab.parent / "driver.log").read_text()
    assert {name: outputs(lab, name) for name in NAMES} == undisturbed
    log = (lab / f".grid/logs/{clone.name}.log").read_text(encoding="utf-8")
    assert log.count(": dvc exp run") == 2
    assert "goes on from checkpoint-" in log
    assert left(lab) == []


@pytest.mark.long
def test_a_driver_killed_on_a_running_ray_leaves_no_work_to_the_next(
    lab: Path, undisturbed: dict[str, dict[str, str]], nodes: Any
) -> None:
    driver = start(lab, "--address", nodes.address)
    wait_for(lambda: training(lab))
    old = at_work(lab / ".grid/cells")
    assert old
    driver.kill()
    driver.wait(END)
    told = grid(lab, "--address", nodes.address, axes=(METHODS, "train.epochs=20"))
    assert "0 missing" in told
    assert not [process for process in old if process.is_running()]
    assert {name: outputs(lab, name) for name in NAMES} == undisturbed
    logs = "".join(path.read_text(encoding="utf-8") for path in (lab / ".grid/logs").glob("*.log"))
    assert "goes on from checkpoint-" in logs
    assert left(lab) == []


def raylets(node: Any) -> list[Any]:
    found: list[Any] = node.all_processes["raylet"]
    return found


class TestBadInput:
    """One line each, before any work."""

    def line(self, folder: Path, *options: str, axes: tuple[str, ...] = (METHODS,)) -> str:
        told = grid(folder, *options, fails=True, axes=axes).strip().splitlines()
        assert told[-1].startswith("error: ")
        assert not any("Traceback" in line for line in told)
        return told[-1]

    @pytest.fixture
    def fresh(self, tmp_path: Path) -> Path:
        return new_project(tmp_path / "fresh")

    def test_uncommitted_changes(self, fresh: Path) -> None:
        path = fresh / "src/train.py"
        path.write_text(path.read_text() + "\n")
        assert "uncommitted changes in src/train.py" in self.line(fresh)

    def test_axes_that_no_setting_knows(self, fresh: Path) -> None:
        assert "Could not override 'nosuch'" in self.line(fresh, axes=("nosuch=1,2",))

    def test_more_gpus_than_there_are(self, fresh: Path) -> None:
        told = self.line(fresh, "--gpus", "99", "--wait", "1")
        assert "no node has 1 CPU core and 99 GPUs" in told
        assert "waited 1 s" in told

    def test_no_ray_at_the_address(self, fresh: Path) -> None:
        assert "no Ray at 127.0.0.1:1" in self.line(fresh, "--address", "127.0.0.1:1")

    def test_two_grids_in_one_repository(self, fresh: Path) -> None:
        from filelock import FileLock

        (fresh / ".dvc/tmp").mkdir()
        (fresh / ".grid").mkdir()
        for lock in (".dvc/tmp/grid.lock", ".grid/lock"):
            with FileLock(fresh / lock):
                assert "another grid runs in this repository or in " in self.line(fresh)

    def test_a_cache_that_cannot_be_written(self, fresh: Path) -> None:
        run(fresh, "dvc", "cache", "dir", "--local", "/proc/self")  # not by root either
        assert "cannot write /proc/self" in self.line(fresh)
