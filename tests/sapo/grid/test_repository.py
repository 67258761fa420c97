"""What runs is a commit; what is finished is known by its name, its settings and its code."""

import os
import subprocess
from pathlib import Path

import pytest

from laboratory import REPOSITORY
from sapo.grid.axes import Cell
from sapo.grid.clones import KEPT, LOCAL, MARK, make, remove
from sapo.grid.kept import write_lock
from sapo.grid.pipeline import Stage, git
from sapo.grid.repository import check_sources, done_before, fetch, origin, ref_of, written
from sapo.runtime.errors import DataError
from sapo.runtime.files import parse_yaml

CELL = Cell("one", ("seed=1",), {"seed": 1}, "seed: 1\n")


def commit(message: str) -> None:
    git("add", "-A")
    git("commit", "-qm", message)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repository"
    for name in ("src/a.py", "conf/config.yaml", "params.yaml", "dvc.lock", "README.md", ".dvc/config"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("seed: 0\n")
    monkeypatch.chdir(folder)
    (folder / ".gitignore").write_text("/.dvc/config.local\n/.checkpoints/\n")
    git("init", "-q", "-b", "main")
    git("config", "user.name", "test")
    git("config", "user.email", "test@example.org")
    commit("start")
    return folder


def finished(clone: Path, cell: Cell) -> None:
    """Leave in a clone what `dvc exp run` does: a commit of the settings, with a ref."""
    (clone / "params.yaml").write_text(cell.text)
    head = git("-C", str(clone), "rev-parse", "HEAD")
    git("-C", str(clone), "commit", "-qam", "experiment")
    git("-C", str(clone), "update-ref", ref_of(head, cell.name), "HEAD")


def test_what_runs_is_the_commit(repository: Path) -> None:
    found = origin(allow_dirty=False)
    assert (found.head, found.dirty) == (git("rev-parse", "HEAD"), False)
    for name in ("params.yaml", "dvc.lock"):
        (repository / name).write_text("seed: 5\n")  # as an earlier run leaves them
    assert origin(allow_dirty=False) == found


@pytest.mark.parametrize("name", ["src/a.py", "README.md", "conf/config.yaml"])
def test_uncommitted_changes_are_refused_by_name_or_taken_along(repository: Path, name: str) -> None:
    (repository / name).write_text("changed\n")
    with pytest.raises(DataError, match=rf"uncommitted changes in {name}: commit them, or give --allow"):
        origin(allow_dirty=False)
    found = origin(allow_dirty=True)
    assert found.dirty
    make(repository, repository.parent / "clone", found, repository / "cache")
    assert (repository.parent / "clone" / name).read_text() == "changed\n"
    assert git("-C", str(repository.parent / "clone"), "rev-parse", "HEAD") == found.head


def test_a_new_file_that_git_does_not_know_is_refused_always(repository: Path) -> None:
    (repository / "conf/new.yaml").touch()
    (repository / "notes.txt").touch()  # nothing reads it
    for allowed in (False, True):
        with pytest.raises(DataError, match=r"Git does not know conf/new\.yaml: a clone would lack them"):
            origin(allow_dirty=allowed)


def test_no_repository_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no commit to run"):
        origin(allow_dirty=False)


def test_an_experiment_comes_home_and_is_known(repository: Path, tmp_path: Path) -> None:
    found, clone = origin(allow_dirty=False), tmp_path / "cells/one"
    make(repository, clone, found, tmp_path / "cache")
    assert done_before([CELL], found) == set()
    finished(clone, CELL)
    fetch(clone, found.head, "one")
    remove(clone)
    assert done_before([CELL], found) == {"one"}
    assert git("show", f"{ref_of(found.head, 'one')}:params.yaml") == "seed: 1"
    assert git("status", "--porcelain") == ""


def test_an_experiment_of_other_settings_or_code_is_not_taken_for_the_cell(
    repository: Path, tmp_path: Path
) -> None:
    found, clone = origin(allow_dirty=False), tmp_path / "cells/one"
    make(repository, clone, found, tmp_path / "cache")
    finished(clone, CELL)
    fetch(clone, found.head, "one")
    other = Cell("one", ("seed=2",), {"seed": 2}, "seed: 2\n")
    with pytest.raises(
        DataError, match=r"one is there already, with other settings: give --name .*dvc exp remove one"
    ):
        done_before([other], found)
    (repository / "src/a.py").write_text("changed\n")
    with pytest.raises(DataError, match="an experiment one is there already, with other code"):
        done_before([CELL], origin(allow_dirty=True))


def test_an_experiment_of_other_rows_is_not_taken_for_the_cell(repository: Path, tmp_path: Path) -> None:
    found, clone = origin(allow_dirty=False), tmp_path / "cells/one"
    make(repository, clone, found, tmp_path / "cache")
    deps = [{"path": "/data/mine", "md5": "1"}, {"path": "src/a.py", "md5": "2"}]
    write_lock(clone / "dvc.lock", {"schema": "2.0", "stages": {"rows": {"cmd": "rows", "deps": deps}}})
    finished(clone, CELL)
    fetch(clone, found.head, "one")
    read = tuple((dep["path"], None) for dep in deps)
    rows = Stage("key", "rows", "dvc.yaml", "rows", read, {}, {"data": False}, False)
    check_sources("one", found, [rows], {"/data/mine": "1"}.get)  # of src/ the commit tells enough
    with pytest.raises(DataError, match="the experiment one was made of another /data/mine: give --name"):
        check_sources("one", found, [rows], {"/data/mine": "3"}.get)


def test_an_experiment_that_appeared_meanwhile_is_not_overwritten(repository: Path, tmp_path: Path) -> None:
    found, clone = origin(allow_dirty=False), tmp_path / "cells/one"
    make(repository, clone, found, tmp_path / "cache")
    finished(clone, CELL)
    git("update-ref", ref_of(found.head, "one"), "HEAD")
    with pytest.raises(DataError, match="an experiment one has been made meanwhile"):
        fetch(clone, found.head, "one")
    assert git("rev-parse", ref_of(found.head, "one")) == found.head


def test_changes_are_taken_along_whatever_diff_is_set_to(repository: Path, tmp_path: Path) -> None:
    for name, value in (("diff.external", "false"), ("diff.noprefix", "true"), ("color.ui", "always")):
        git("config", name, value)
    (repository / "src/a.py").write_text("changed\n")
    make(repository, tmp_path / "clone", origin(allow_dirty=True), tmp_path / "cache")
    assert (tmp_path / "clone/src/a.py").read_text() == "changed\n"


def test_what_stages_write_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """All outputs that Git tracks."""
    monkeypatch.chdir(REPOSITORY)
    outs = [
        out["path"]
        for file in ("dvc.lock", "study/dvc.lock")
        for stage in parse_yaml(Path(file).read_text(), file)["stages"].values()
        for out in stage["outs"]
    ]
    tracked = [os.path.normpath(path) for path in outs if git("ls-files", "--", path)]
    assert "metrics/cl.json" in tracked
    assert [path for path in tracked if not written(path)] == []


def test_a_clone_is_fresh_but_for_checkpoints(repository: Path, tmp_path: Path) -> None:
    (repository / LOCAL).write_text("['remote \"mine\"']\n    password = secret\n")
    found, clone = origin(allow_dirty=False), tmp_path / "cells/one"
    make(repository, clone, found, tmp_path / "cache")
    (clone / KEPT / "training").mkdir(parents=True)
    (clone / KEPT / "training/weights").write_text("w")
    (clone / "src/a.py").write_text("half written")
    (clone / "left.partial").touch()
    make(repository, clone, found, tmp_path / "cache")
    assert (clone / KEPT / "training/weights").read_text() == "w"
    assert (clone / "src/a.py").read_text() == "seed: 0\n"
    assert not (clone / "left.partial").exists()
    local = (clone / LOCAL).read_text()
    assert f"dir = {tmp_path}/cache" in local
    assert "password = secret" in local
    assert git("-C", str(clone), "status", "--porcelain") == ""
    remove(clone)
    assert list(clone.parent.iterdir()) == []


def test_what_works_on_in_a_clone_is_ended_before_the_next_attempt(repository: Path, tmp_path: Path) -> None:
    found, clone = origin(allow_dirty=False), tmp_path / "cells/one"
    make(repository, clone, found, tmp_path / "cache")
    environment = {**os.environ, MARK: str(clone)}
    orphan = subprocess.Popen(["sleep", "600"], env=environment)
    shell = subprocess.Popen(["sleep", "600"], cwd=clone)  # a user's, who looks at a failed cell
    make(repository, clone, found, tmp_path / "cache")
    assert orphan.wait(10) == -9
    assert shell.poll() is None
    shell.kill()
    shell.wait()
