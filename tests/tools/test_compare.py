"""compare.py on runs made by hand in a Git repository: a commit each, row scores in the workspace's files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import compare
from sapo.analysis.comparison import Run, difference, grouped, read_run
from sapo.runtime.errors import DataError
from sapo.analysis.metrics import METRICS, continual_metrics
from sapo.analysis.intervals import Table, row_intervals

ORDER = ["one", "two"]


def table(seed: int, gain: float, rows: int = 30) -> Table:
    """Two tasks after three stages; the last model is `gain` points better than another method's."""
    random = np.random.default_rng(7)
    own = np.random.default_rng(seed)
    base = {task: random.uniform(20, 60, (1, 2, rows)) + random.normal(0, 3, (3, 2, rows)) for task in ORDER}
    better = np.array([0, 0, gain])[:, None, None]
    return {task: scores + better + own.normal(0, 1, (3, 2, 1)) * (seed > 0) for task, scores in base.items()}


def made(method: str, seed: int, gain: float = 0.0, rows: bool = True, **settings: Any) -> Run:
    scores = table(seed, gain)
    metrics: dict[str, Any] = {"method": method, "seed": seed, "sequence": "s", "test_fingerprint": "t"}
    for number, metric in enumerate(METRICS):
        zero, *matrix = np.stack([of[:, number].mean(-1) for of in scores.values()], axis=1).tolist()
        metrics[metric] = continual_metrics(zero, matrix)
    metrics["original_prompt"] = {metric: metrics[metric] for metric in METRICS}
    found = {"method.name": method, "train.learning_rate": 0.1} | settings
    return Run(f"{method}-{seed}", metrics, found, ORDER, {"chosen": scores, "original": scores} if rows else None)


def test_one_seed_has_the_interval_over_test_rows_and_says_so() -> None:
    groups = grouped([made("lora_inc", 1), made("olora", 1, gain=5)])
    text = "\n".join(compare.means(groups, "rouge_l", "chosen"))
    assert "nothing can be concluded" in text
    low, high = row_intervals(table(1, 0))[1]["rouge_l"]["AP"]
    assert f"[{low:+.1f}, {high:+.1f}] *" in text
    text = "\n".join(compare.differences(groups, "rouge_l", "chosen"))
    assert "fewer than two seeds" in text
    assert "olora - lora_inc" in text
    assert "paired" not in text


def test_an_interval_without_width_is_said_to_be_no_certainty() -> None:
    run = made("lora_inc", 1)
    for of in (run.rows or {}).values():
        of |= {task: np.zeros_like(scores) for task, scores in of.items()}
    run.metrics["rouge_l"] |= dict.fromkeys(("AP", "BWT", "FWT"), 0.0)
    assert "which is not certainty" in "\n".join(compare.means(grouped([run]), "rouge_l", "chosen"))
    assert "certainty" not in "\n".join(compare.means(grouped([made("lora_inc", 1)]), "rouge_l", "chosen"))


def test_several_seeds_have_t_intervals_and_paired_tests() -> None:
    runs = [made(method, seed, gain) for method, gain in (("lora_inc", 0), ("olora", 5)) for seed in (1, 2, 3)]
    groups = grouped(runs)
    assert [(group.label, sorted(group.runs)) for group in groups] == [("lora_inc", [1, 2, 3]), ("olora", [1, 2, 3])]
    values = [run.value("AP", "rouge_l", "chosen") for run in runs[:3]]
    mean = groups[0].mean("AP", "rouge_l", "chosen")
    assert mean.value == pytest.approx(np.mean(values))
    assert mean.high - mean.value == pytest.approx(4.3027 * np.std(values, ddof=1) / 3**0.5, rel=1e-3)
    tests, notes = difference(groups[1], groups[0], ["AP", "BWT"], "rouge_l", "chosen")
    assert list(tests) == ["test rows", "3 seeds, paired"]
    assert tests["test rows"]["AP"].value == pytest.approx(5)
    assert not notes
    assert "too few" in "\n".join(compare.means(groups, "rouge_l", "chosen"))


def test_other_seeds_are_compared_by_welchs_test_and_lost_rows_are_said_to_be_lost() -> None:
    groups = grouped([made("lora_inc", 1), made("lora_inc", 2), made("olora", 3, 5), made("olora", 4, 5)])
    tests, _ = difference(groups[1], groups[0], ["AP"], "rouge_l", "chosen")
    assert list(tests) == ["2 and 2 seeds"]
    groups = grouped([made("lora_inc", 1, rows=False), made("olora", 1, 5)])
    tests, notes = difference(groups[1], groups[0], ["AP"], "rouge_l", "chosen")
    assert not tests
    assert "row scores are missing" in notes[0]
    assert "no interval" in "\n".join(compare.means(groups, "rouge_l", "chosen"))


def test_runs_are_told_apart_by_what_differs_and_the_same_run_counts_once() -> None:
    runs = [made("lora_inc", 1), made("lora_inc", 1), made("lora_inc", 2, **{"train.learning_rate": 0.2})]
    assert [group.label for group in grouped(runs)] == ["lora_inc train.learning_rate=0.1", "lora_inc train.learning_rate=0.2"]
    big = {"model.name": "big", "model.id": "maker/big"}
    runs = [made("lora_inc", 1, **{"model.name": "small", "model.id": "maker/small"}), made("olora", 1, **big)]
    assert [group.label for group in grouped(runs)] == ["lora_inc model.name=small", "olora model.name=big"]
    runs[0].metrics["versions"] = {"torch": "1"}
    assert "different library versions or devices" in "\n".join(compare.means(grouped(runs), "rouge_l", "chosen"))
    with pytest.raises(DataError, match="both lora_inc with seed 1, but differ"):
        grouped([made("lora_inc", 1), made("lora_inc", 1, gain=1)])


@pytest.mark.parametrize("field", ["sequence", "test_fingerprint"])
def test_runs_that_were_tested_on_other_rows_are_refused(field: str) -> None:
    runs = [made("lora_inc", 1), made("olora", 1)]
    runs[1].metrics[field] = "another"
    with pytest.raises(DataError, match=f"lora_inc-1 and olora-1 cannot be compared: their {field} is"):
        grouped(runs)
    del runs[1].metrics[field]
    with pytest.raises(DataError, match=f"olora-1: metrics/cl.json has no {field}"):
        grouped(runs)


@pytest.mark.parametrize("bad", [None, float("nan"), "50", True])
def test_fault_04_a_metric_that_is_no_number_is_named(bad: Any) -> None:
    run = made("lora_inc", 1)
    run.metrics["rouge_l"]["AP"] = bad
    with pytest.raises(DataError, match=r"lora_inc-1: rouge_l AP is .*, not a finite number"):
        run.value("AP", "rouge_l", "chosen")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits, `first` and `second`, of one method with two seeds."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)
    for name, seed in (("first", 1), ("second", 2)):
        run = made("lora_inc", seed)
        Path("params.yaml").write_text(
            yaml.safe_dump({"seed": seed, "method": {"name": "lora_inc"}, "sequence": {"tasks": {"one": {}, "two": {}}}})
        )
        Path("metrics/rows").mkdir(parents=True, exist_ok=True)
        Path("metrics/cl.json").write_text(json.dumps(run.metrics))
        assert run.rows
        lines = [
            {"stage": stage, "task": task, "prompt": "chosen"} | dict(zip(METRICS, scores[number].tolist(), strict=True))
            for task, scores in run.rows["chosen"].items()
            for number, stage in enumerate(["base", *ORDER])
        ]
        Path("metrics/rows/two.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        git("add", "-A")
        git("commit", "-qm", name)
        git("tag", name)
    return tmp_path


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments], check=True)


def test_revisions_and_the_workspace_are_read(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = read_run("first")
    assert run.rows is not None
    np.testing.assert_allclose(run.rows["chosen"]["one"], table(1, 0)["one"])
    assert run.settings == {"method.name": "lora_inc", "sequence.tasks.one": {}, "sequence.tasks.two": {}}
    monkeypatch.setattr("sys.argv", ["compare.py", "first", "second", "workspace"])
    compare.main()
    printed = capsys.readouterr().out
    assert "lora_inc  1,2" in printed
    assert "one method: nothing to compare." in printed
    monkeypatch.setattr("sys.argv", ["compare.py", "no-such-revision"])
    with pytest.raises(SystemExit, match=r"error: no-such-revision: params\.yaml cannot be read"):
        compare.main()
    Path("metrics/cl.json").unlink()
    monkeypatch.setattr("sys.argv", ["compare.py", "workspace"])
    with pytest.raises(SystemExit, match=r"error: metrics/cl\.json is missing"):
        compare.main()
