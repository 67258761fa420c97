"""What publish.py compares and what it replaces, without a run."""

from pathlib import Path

import pytest

import publish
from laboratory import commit, run
from sapo.artifacts.results import RunResults
from sapo.artifacts.scores import RowScores
from sapo.artifacts.summary import Metrics, Summary
from sapo.runtime.errors import DataError


def results(AP: float = 1.0, row: float = 1.0, **settings: str) -> RunResults:  # noqa: N803
    summary = Summary.model_validate(
        {"method": "joint", "model": "tiny", "seed": 1, "sequence": "s", "rouge_l": {"AP": AP}}
        | {"original_prompt": Metrics(), "test_rows": {"one": 1}, "test_fingerprint": "t"}
        | {"base_fingerprint": "b", "dtype": "float32", "device": "cpu", "versions": {}}
    )
    rows = [RowScores.of("base", "one", "chosen", {"rouge_l": [row]})]
    return RunResults(settings=settings, summary=summary, rows=rows)


def test_stored_results_are_the_same_where_metrics_and_rows_are() -> None:
    publish.check_same(results(), results(comment="another"), Path("results/joint-1.json"))
    for now, odd in (
        (results(AP=1.0001), "summary"),
        (results(row=2.0), "rows"),
        (results(AP=2.0, row=2.0), "summary and rows"),
    ):
        with pytest.raises(DataError, match=rf"^results/joint-1\.json: {odd} are not the stored ones"):
            publish.check_same(results(), now, Path("results/joint-1.json"))


def folder(path: Path, content: str) -> Path:
    """A repository with a store, a file of results, and what the last report wrote."""
    for name in ("published/blob", f"results/{content}-1.json", "metrics/cl.json", "plots/a.csv", "dvc.lock"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    run(path, "git", "init", "-q")
    run(path, "git", "config", "user.name", "test")
    run(path, "git", "config", "user.email", "test@example.org")
    commit(path, "made")
    return path


@pytest.mark.parametrize("whole", [True, False])
def test_only_a_whole_run_replaces_the_files_of_results(
    whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, here = folder(tmp_path / "made", "new"), folder(tmp_path / "here", "old")
    monkeypatch.chdir(here)
    publish.take_over(made, *((publish.STORE, publish.RESULTS) if whole else (publish.STORE,)))
    for name in ("published/blob", "metrics/cl.json", "plots/a.csv", "dvc.lock"):
        assert Path(name).read_text() == "new"
    assert [path.name for path in publish.RESULTS.iterdir()] == ["new-1.json" if whole else "old-1.json"]
