"""What no cache brings back is kept once, linked into clones, and known to their dvc.lock."""

import subprocess
from pathlib import Path

import pytest

from sapo.grid.kept import Kept, forget_missing, link, lock_entry, lock_of, read_lock, write_lock
from sapo.grid.pipeline import Stage

ENTRY = {"cmd": "make", "outs": [{"path": "data/rows", "hash": "md5", "md5": "1.dir"}]}


def stage(key: str = "k", restored: bool = False, file: str = "dvc.yaml") -> Stage:
    return Stage(key, "prepare", file, "make", (), {}, {"data/rows": False, "list.txt": False}, restored)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A clone in which the stage is finished."""
    clone = tmp_path / "made"
    (clone / "data/rows").mkdir(parents=True)
    (clone / "data/rows/a.jsonl").write_text("a")
    (clone / "list.txt").write_text("l")
    write_lock(clone / "dvc.lock", {"schema": "2.0", "stages": {"prepare": ENTRY}})
    return clone


def test_kept_outputs_are_placed_with_their_entry_beside_others(made: Path, tmp_path: Path) -> None:
    kept, other = Kept(tmp_path / "kept"), tmp_path / "other"
    kept.place(other, [stage()])
    assert not other.exists()
    kept.put(made, [stage()])
    assert kept.entry(stage()) == ENTRY
    write_lock(other / "dvc.lock", {"schema": "2.0", "stages": {"train": {"cmd": "train"}}})
    (other / "data/rows").mkdir(parents=True)
    (other / "data/rows/old.jsonl").touch()
    kept.place(other, [stage(), stage("unknown")])
    assert sorted(path.name for path in (other / "data/rows").iterdir()) == ["a.jsonl"]
    assert (other / "data/rows/a.jsonl").samefile(made / "data/rows/a.jsonl")
    assert (other / "list.txt").read_text() == "l"
    assert lock_entry(other, stage()) == ENTRY
    assert read_lock(other / "dvc.lock")["stages"]["train"] == {"cmd": "train"}


def test_what_a_unit_does_not_run_itself_stays_in_its_lock_file(tmp_path: Path) -> None:
    """As the report of an experiment, in a cell of the study."""
    entries = {
        name: {"cmd": name, "outs": [{"path": name, "md5": f"{name}{name}"}]}
        for name in ("train", "prepare", "report")
    }
    write_lock(tmp_path / "dvc.lock", {"schema": "2.0", "stages": entries})
    there = tmp_path / "cache/files/md5/tr/aintrain"
    there.parent.mkdir(parents=True)
    there.touch()
    forget_missing(tmp_path, "dvc.yaml", {"train", "prepare"}, tmp_path / "cache")
    assert set(read_lock(tmp_path / "dvc.lock")["stages"]) == {"train", "report"}
    forget_missing(tmp_path, "dvc.yaml", {"train", "prepare"}, None)
    assert set(read_lock(tmp_path / "dvc.lock")["stages"]) == {"report"}


def test_what_others_may_write_is_copied(made: Path, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    kept.put(made, [stage()], own=False)
    (made / "data/rows/a.jsonl").write_text("changed in place")
    assert kept.output(stage(), "data/rows").joinpath("a.jsonl").read_text() == "a"


def test_what_git_tracks_is_copied_since_git_writes_in_place(made: Path, tmp_path: Path) -> None:
    kept, other = Kept(tmp_path / "kept"), tmp_path / "other"
    kept.put(made, [stage()])
    other.mkdir()
    (other / "list.txt").write_text("old")
    for command in (["init", "-q"], ["add", "list.txt"]):
        subprocess.run(["git", "-C", str(other), *command], check=True)
    kept.place(other, [stage()])
    (other / "list.txt").write_text("what HEAD has")
    assert kept.output(stage(), "list.txt").read_text() == "l"
    assert (other / "data/rows/a.jsonl").samefile(kept.output(stage(), "data/rows") / "a.jsonl")


def test_what_the_run_cache_brings_back_or_did_not_run_is_not_kept(made: Path, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    (tmp_path / "empty").mkdir()
    kept.put(made, [stage(restored=True)])
    kept.put(tmp_path / "empty", [stage()])
    assert not (tmp_path / "kept").exists()


def test_a_kept_output_that_was_cut_off_is_none(made: Path, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    (made / "list.txt").unlink()
    with pytest.raises(FileNotFoundError):
        kept.put(made, [stage()])
    assert kept.entry(stage()) is None
    assert list((tmp_path / "kept").iterdir()) == []


def test_each_pipeline_has_its_own_lock(tmp_path: Path) -> None:
    assert lock_of(tmp_path, "study/dvc.yaml") == tmp_path / "study/dvc.lock"


def test_a_link_across_file_systems_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(18, "cross-device")))
    (tmp_path / "a").write_text("a")
    link(tmp_path / "a", tmp_path / "b/c")
    assert (tmp_path / "b/c").read_text() == "a"
