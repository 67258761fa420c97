"""What is in DVC's cache is found for any settings, before anything runs."""

import os
import shutil
from pathlib import Path

import pytest

from grids import small_cell, small_pipeline
from laboratory import run
from sapo.grid.cached import Cache
from sapo.grid.command import comes_first, planned
from sapo.grid.kept import Kept
from sapo.grid.pipeline import EXPERIMENT, Sources, Stage, stages
from sapo.runtime.errors import DataError

ALL = {"rows", "part@a", "part@b", "whole"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After a run with the default settings and one with another seed."""
    folder = small_pipeline(tmp_path_factory.mktemp("small") / "lab")
    run(folder, "dvc", "exp", "run", "-S", "seed=2")
    run(folder, "dvc", "exp", "run", "-S", "seed=1")
    return folder


@pytest.fixture
def lab(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lab"
    shutil.copytree(finished, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def found(cache: Cache, adopted: bool = True, **settings: int) -> set[str]:
    """The names of the stages of these settings that need not run."""
    of = stages(small_cell(**settings), Sources("HEAD"))
    if adopted:
        cache.adopt(of)
    return names(cache.finished(of), of)


def names(keys: set[str], of: dict[str, Stage]) -> set[str]:
    return {of[key].name for key in keys}


def cache() -> Cache:
    return Cache(Kept(Path(".grid/kept")))


def test_all_that_ran_is_found_for_its_settings_and_no_other(lab: Path) -> None:
    assert cache().folder == lab / ".dvc/cache"
    assert found(cache()) == ALL
    assert found(cache(), seed=2) == ALL  # not the settings of the workspace
    assert found(cache(), seed=3) == ALL - {"whole"}
    assert found(cache(), rows=3) == set()


def test_what_no_cache_holds_is_taken_from_the_workspace_where_it_is_the_same(lab: Path) -> None:
    assert found(cache(), adopted=False) == set()
    (lab / "data/rows/a/0.txt").write_text("changed by hand")
    assert found(cache()) == set()


def test_a_look_takes_nothing_over(lab: Path) -> None:
    looked = Cache(Kept(Path(".grid/kept")), keep=False)
    of = stages(small_cell(), Sources("HEAD"))
    looked.adopt(of)
    assert names(looked.finished(of), of) == ALL
    assert not (lab / ".grid").exists()


def test_what_is_kept_serves_without_the_workspace(lab: Path) -> None:
    assert found(cache()) == ALL
    shutil.rmtree(lab / "data")
    (lab / "dvc.lock").unlink()
    assert found(cache(), adopted=False, seed=2) == ALL


def test_results_that_are_gone_from_the_cache_are_not_counted(lab: Path) -> None:
    for path in (lab / ".dvc/cache/files/md5").rglob("*"):
        if path.is_file() and path.read_bytes() == b"A 1":
            os.remove(path)
    assert found(cache()) == {"rows", "part@b"}


def test_changed_code_is_other_work(lab: Path) -> None:
    (lab / "src/make.py").write_text((lab / "src/make.py").read_text() + "\n")
    run(lab, "git", "commit", "-qam", "code")
    assert found(cache()) == set()


def test_what_a_remote_has_is_found_without_a_cache(lab: Path) -> None:
    run(lab, "dvc", "remote", "add", "store", str(lab.parent / "store"))
    empty = Cache(Kept(Path(".grid/kept")), "store")
    assert found(empty) == {"rows"}  # it lies in the workspace
    run(lab, "dvc", "push", "--run-cache", "--remote", "store")
    shutil.rmtree(lab / ".dvc/cache")
    # The metrics of `whole` are in Git, not in a remote
    assert found(Cache(Kept(Path(".grid/kept")), "store")) == ALL - {"whole"}
    with pytest.raises(DataError, match=r"--remote other: .*other"):
        Cache(Kept(Path(".grid/kept")), "other")


def test_rows_that_are_the_same_make_the_same_work_of_what_comes_after(lab: Path) -> None:
    """As two sequences that begin with the same task: another stage has made its rows for each."""
    cells, files = [small_cell("one"), small_cell("other", more=1)], [EXPERIMENT]
    known = cache()
    made = planned(cells, Sources("HEAD"), files, known.content)
    first = {name for name, unit in made.units.items() if comes_first(unit, made)}
    assert first == {"shared-rows", "shared-rows-2"}
    assert not set(made.of_cell["one"]) & set(made.of_cell["other"])  # the other's rows are not known yet

    known.kept.put(made_with(lab, more=1), made.of_cell["other"].values())
    known.forget_unfinished()
    again = planned(cells, Sources("HEAD"), files, known.content)
    (same,) = set(again.of_cell["one"]) & set(again.of_cell["other"])
    assert again.stages[same].name == "part@a"
    assert [unit.keys for name, unit in again.units.items() if name.startswith("shared-part")] == [(same,)]
    assert set(again.of_cell["one"]) == set(made.of_cell["one"])  # whatever else is asked for
    finished = known.finished(again.stages)
    assert names(finished & set(again.of_cell["one"]), again.stages) == ALL
    assert names(finished & set(again.of_cell["other"]), again.stages) == {"rows", "part@a"}


def made_with(lab: Path, **settings: int) -> Path:
    """A clone of the repository in which the rows of these settings have been made."""
    clone = lab.parent / "clone"
    run(lab, "git", "clone", "-q", str(lab), str(clone))
    (clone / "params.yaml").write_text(small_cell(**settings).text)
    run(clone, "dvc", "repro", "rows")
    return clone
