"""The study through DVC: what runs with it, what does not, and a study that is killed again and again."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from laboratory import STUDY, copy_of, environment, experiment, read, run, settings, stages_run

OURS = {
    "study_paraphrase",
    "study_losses@pair0",
    "study_train@pair0-1",
    "study_train@pair0-2",
    "study_report",
}


@pytest.fixture(scope="module")
def studied(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The tiny run after its study, and what that printed."""
    project = copy_of(tiny_project, tmp_path_factory.mktemp("study") / "project")
    return project, run(project, "dvc", "exp", "run", *settings(*STUDY), "study/dvc.yaml")


def names(output: str) -> set[str]:
    return {stage.removeprefix("study/dvc.yaml:") for stage in stages_run(output)}


def files(project: Path) -> dict[str, bytes]:
    folders = (project / "study", project / "plots/study")
    found = [
        path for folder in folders for path in folder.rglob("*") if path.suffix in (".json", ".md", ".csv")
    ]
    return {
        str(path.relative_to(project)): path.read_bytes() for path in [*found, project / "metrics/study.json"]
    }


def test_a_study_runs_its_own_stages_and_those_it_needs(studied: tuple[Path, str]) -> None:
    project, output = studied
    assert names(output) == OURS
    assert "the whole report: study/report.md" in output
    assert not stages_run(run(project, "dvc", "repro", "study/dvc.yaml"))
    assert not stages_run(run(project, "dvc", "repro"))
    found = read(project / "metrics/study.json")
    assert [pair["pair"] for pair in found["pairs"]] == [{"task": "xsum", "after": "reuters_r8"}]


def test_a_plain_run_leaves_the_study_alone(studied: tuple[Path, str], tmp_path: Path) -> None:
    project = copy_of(studied[0], tmp_path / "copy")
    assert stages_run(experiment(project, *STUDY, "selection.rows=3"))
    again = names(run(project, "dvc", "repro", "study/dvc.yaml"))
    assert "study_losses@pair0" in again  # which reads these rows
    assert "study_paraphrase" not in again


def test_another_seed_trains_that_seed_alone(studied: tuple[Path, str], tmp_path: Path) -> None:
    project = copy_of(studied[0], tmp_path / "copy")
    output = run(project, "dvc", "exp", "run", *settings(*STUDY, "study.seeds=[1,2,3]"), "study/dvc.yaml")
    assert names(output) == {"study_train@pair0-3", "study_report"}
    fewer = run(project, "dvc", "exp", "run", *settings(*STUDY, "study.seeds=[3]"), "study/dvc.yaml")
    assert "study_report" in names(fewer)
    assert read(project / "metrics/study.json")["seeds"] == [3]  # whatever else lies in the folder


def test_a_study_killed_at_five_points_ends_with_the_same_bytes(
    studied: tuple[Path, str], tmp_path: Path
) -> None:
    project = copy_of(studied[0], tmp_path / "copy")
    expected = files(project)
    rows = project / "study/rows/xsum-after-reuters_r8-2.json"
    rows.unlink()
    command = ["python", "src/study_train.py", "xsum", "reuters_r8", "2"]
    kills = 0
    for finished in range(5):
        process = subprocess.Popen(
            command, cwd=project, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            found = len(list(project.glob(".checkpoints/study-*/[0-9]*.json")))
            if found >= finished:
                time.sleep(0.05 * finished)  # somewhere in the next wording
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                break
            time.sleep(0.002)
        if rows.exists():
            break
    assert kills >= 3
    run(project, *command)
    assert files(project) == expected
    assert not list(project.glob(".checkpoints/study-*"))
