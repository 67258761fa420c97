"""A repository with the tiny model and two real tasks, and the commands that a user types in it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parent.parent
PAIR = """name: pair
source: embedded
path: src/sapo/data/tasks
tasks:
  reuters_r8: {after: base}
  xsum: {after: reuters_r8}
last: xsum
"""
STUDIED = {"task": "xsum", "after": "reuters_r8"}  # the pair of its study
SMALL = [
    *[
        "sequence=pair",
        "model=tiny_llama",
        "data.train_rows=6",
        "data.test_rows=3",
        "paraphrase.count=2",
        "selection.rows=4",
    ],
    *["prompt.max_tokens=900", "evaluate.max_new_tokens=4", "train.epochs=1", "train.learning_rate=0.01"],
]


def environment() -> dict[str, str]:
    """This process's, with this Python's commands first in PATH."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }


def run(folder: Path, *command: str, fails: bool = False) -> str:
    """The command's output, stderr included; its success (or failure) is asserted."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert (done.returncode != 0) == fails, done.stdout[-4000:]
    return done.stdout


STUDY = [
    "study.pairs=[{task: xsum, after: reuters_r8}]",
    *["study.wordings=5", "study.train_rows=6", "study.test_rows=3", "study.other_rows=2", "study.steps=1"],
]


def settings(*overrides: str) -> list[str]:
    return [part for override in [*SMALL, *overrides] for part in ("-S", override)]


def experiment(folder: Path, *overrides: str, options: tuple[str, ...] = (), fails: bool = False) -> str:
    return run(folder, "dvc", "exp", "run", *options, *settings(*overrides), fails=fails)


def stages_run(output: str) -> set[str]:
    """The stages whose command DVC ran, by its output."""
    return {line.split("'")[1] for line in output.splitlines() if "Running stage '" in line}


def new_project(folder: Path) -> Path:
    """A repository with this one's files and one new YAML file, committed; nothing has been run."""
    folder.mkdir()
    for name in ("src", "tools", "conf", "dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        source = REPOSITORY / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy(source, folder / name)
    (folder / "study").mkdir()
    shutil.copy(REPOSITORY / "study/dvc.yaml", folder / "study/dvc.yaml")
    (folder / ".dvc").mkdir()
    shutil.copy(REPOSITORY / ".dvc/config", folder / ".dvc/config")
    shutil.copytree(REPOSITORY / ".dvc/plots", folder / ".dvc/plots")
    (folder / "conf/sequence/pair.yaml").write_text(PAIR)
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "test")
    run(folder, "git", "config", "user.email", "test@example.org")
    commit(folder, "start")
    return folder


def with_section(section: str, **changes: Any) -> Callable[[], None]:
    """A change of some fields of a section of ./params.yaml."""

    def change() -> None:
        content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        content[section] |= changes
        Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    return change


def study_settings(**changes: Any) -> None:
    """Write a study into ./params.yaml that trains as the run did, under five wordings."""
    run = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    study = {"pairs": [STUDIED], "wordings": 5, "seeds": [run["seed"]], "epochs": run["train"]["epochs"]}
    study |= {"train_rows": run["data"]["train_rows"], "test_rows": run["data"]["test_rows"]}
    with_section("study", **(study | {"other_rows": 2, "steps": 1} | changes))()


def commit(folder: Path, message: str) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", message)


def copy_of(project: Path, folder: Path) -> Path:
    """The whole project, cache and history included, for a test that changes it."""
    shutil.copytree(project, folder, symlinks=True)
    return folder


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
