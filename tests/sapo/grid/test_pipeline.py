"""The stages of a cell: this pipeline resolved as DVC does, with keys of what decides them."""

import subprocess
from pathlib import Path

import pytest

from laboratory import REPOSITORY
from sapo.grid.axes import Cell, cells
from sapo.grid.pipeline import (
    EXPERIMENT,
    STUDY,
    Sources,
    Stage,
    closure,
    git,
    overlap,
    stages,
    value_of,
)
from sapo.runtime.errors import DataError


@pytest.fixture(scope="module")
def of_cell() -> dict[str, dict[str, Stage]]:
    """Three methods of this repository, the last with other training rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        asked = [*cells(["method=lora_inc,olora"]), *cells(["method=olora", "data.train_rows=8"], "few")]
        sources = Sources("HEAD")
        return {cell.name: stages(cell, sources) for cell in asked}


def key(stages: dict[str, Stage], name: str) -> str:
    return next(key for key, stage in stages.items() if stage.name == name)


def test_cells_share_what_their_settings_do_not_change(of_cell: dict[str, dict[str, Stage]]) -> None:
    one, other, few = of_cell.values()
    for shared in ("prepare", "base_model", "zero_shot", "select@reuters_r8"):
        assert key(one, shared) == key(other, shared)
    for own in ("train@reuters_r8", "select@missing_questions", "report"):
        assert key(one, own) != key(other, own)
    assert key(few, "base_model") == key(one, "base_model")
    assert key(few, "prepare") != key(one, "prepare")
    assert key(few, "zero_shot") != key(one, "zero_shot")  # it reads the rows


def test_each_stage_comes_after_those_that_it_needs(of_cell: dict[str, dict[str, Stage]]) -> None:
    for found in of_cell.values():
        order = list(found)
        assert all(
            order.index(need) < order.index(key) for key, stage in found.items() for need in stage.needs
        )
        report = found[key(found, "report")]
        needed = {found[need].name for need in report.needs}
        assert {
            "zero_shot",
            "evaluate@newsgroups",
            "train@newsgroups",
            "select@reuters_r8",
            "prepare",
        } <= needed
        assert closure([report.key], found) == list(found)


def test_what_the_run_cache_brings_back(of_cell: dict[str, dict[str, Stage]]) -> None:
    found = next(iter(of_cell.values()))
    assert {stage.name for stage in found.values() if not stage.restored} == {
        "prepare",
        "base_model",
        "report",
    }


def test_the_study_is_resolved_from_its_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    (cell,) = cells(["study=quick"])
    found = stages(cell, Sources("HEAD"), (EXPERIMENT, STUDY))
    trainings = [stage for stage in found.values() if stage.name.startswith("study_train")]
    study = cell.settings["study"]
    assert len(trainings) == len(study["pairs"]) * len(study["seeds"])
    for stage in trainings:
        assert stage.target == f"study/dvc.yaml:{stage.name}"
        assert {found[need].name for need in stage.needs} >= {"prepare", "base_model", "study_paraphrase"}
        assert all(path.startswith("study/rows/") for path in stage.outs)


PIPELINE = """stages:
  one:
    cmd: python one.py ${a}
    deps: [one.py, data]
    params: [a]
    outs: [out/one]
  two:
    cmd: python two.py
    deps: [out]
    metrics: [{metrics.json: {cache: false}}]
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (("dvc.yaml", PIPELINE), ("one.py", "1"), ("data/a", "1"), ("data/b", "2")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *author, *command], check=True)
    return tmp_path


def made(a: int = 1, commit: str = "HEAD", **more: int) -> dict[str, str]:
    """Key by name, of a cell with this value of the setting `a`."""
    settings = {"a": a} | more
    text = "".join(f"{name}: {value}\n" for name, value in settings.items())
    return {stage.name: key for key, stage in stages(Cell("c", (), settings, text), Sources(commit)).items()}


def test_a_key_changes_with_settings_that_count_and_with_sources(small: Path) -> None:
    first = made()
    assert made(b=5) == first
    changed = made(a=2)
    assert changed["one"] != first["one"]
    assert changed["two"] != first["two"]
    (small / "data/b").write_text("3")
    assert made() == first  # what runs is the commit
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *author, "commit", "-qam", "data"], check=True)
    assert made()["one"] != first["one"]
    assert made(commit="HEAD~1") == first


def test_stages_are_resolved_once_for_settings_that_make_no_other_ones(small: Path) -> None:
    sources = Sources("HEAD")
    for a, b in ((1, 1), (1, 2), (2, 1)):
        stages(Cell("c", (), {"a": a, "b": b}, f"a: {a}\nb: {b}\n"), sources)
    assert len(sources.resolved) == 2


def test_sources_outside_git_count_and_missing_ones_are_told(small: Path) -> None:
    text = (small / "dvc.yaml").read_text().replace("deps: [one.py, data]", f"deps: [one.py, {small}/mine]")
    (small / "dvc.yaml").write_text(text)
    with pytest.raises(DataError, match=r"mine is missing: the settings name it"):
        made()
    (small / "mine").mkdir()
    (small / "mine/a").write_text("1")
    first = made()
    (small / "mine/a").write_text("12")
    assert made()["one"] != first["one"]


def test_a_source_that_a_clone_would_lack_is_refused(small: Path) -> None:
    text = (small / "dvc.yaml").read_text().replace("deps: [one.py, data]", "deps: [one.py, mine]")
    (small / "dvc.yaml").write_text(text)
    (small / "mine").write_text("1")
    with pytest.raises(DataError, match=r"Git does not know mine, .* commit it, or give its whole path"):
        made()


def test_a_setting_that_is_not_there_is_told(small: Path) -> None:
    with pytest.raises(DataError, match=r"depends on the setting a\.b, which params\.yaml lacks"):
        value_of({"a": 1}, "a.b")


def test_paths_overlap_where_one_holds_the_other() -> None:
    assert overlap("a/b", "a/b")
    assert overlap("a", "a/b")
    assert overlap("a/b", "a")
    assert not overlap("a/b", "a/bc")


def test_git_says_why_it_fails(small: Path) -> None:
    with pytest.raises(DataError, match=r"git show nosuch: fatal"):
        git("show", "nosuch")
