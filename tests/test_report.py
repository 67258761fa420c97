"""report, run on scores and a lineage made by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from report import report
from sapo.files import DataError

REPOSITORY = Path(__file__).parents[1]
ORDER = ["reuters_r8", "election_tweets", "commonsense_qa", "xsum"]
IMAGES = ["matrix.png", "scores.png", "candidates.png", "training.png"]

# ROUGE-L: a row a stage, the base model first, a column a task. Exact match is half of it, and under the original prompt
# every score of a trained model is 1 lower.
ROUGE_L = [
    [8, 4, 20, 12],
    [70, 30, 25, 13],
    [66, 80, 22, 10],
    [60, 84, 40, 15],
    [50, 75, 37, 20],
]
AP = (50 + 75 + 37 + 20) / 4
BWT = ((66 - 70) + ((60 - 70) + (84 - 80)) / 2 + ((50 - 70) + (75 - 80) + (37 - 40)) / 3) / 3
FWT = (((30 - 4) + (25 - 20) + (13 - 12)) / 3 + ((22 - 20) + (10 - 12)) / 2 + (15 - 12)) / 3
BWT_FINAL = ((50 - 70) + (75 - 80) + (37 - 40)) / 3
FORGETTING = ((70 - 50) + (84 - 75) + (40 - 37)) / 3
NEW_TASK = (70 + 80 + 40 + 20) / 4
LOSSES = [2.5, 1.25, 3.0]  # of each task's candidates, the original first


def score_rows() -> list[dict[str, Any]]:
    rows = []
    for stage, values in zip(["base", *ORDER], ROUGE_L, strict=True):
        lower = 0 if stage == "base" else 1
        chosen = {task: {"rouge_l": v, "exact_match": v / 2} for task, v in zip(ORDER, values, strict=True)}
        original = {task: {"rouge_l": v - lower, "exact_match": (v - lower) / 2} for task, v in zip(ORDER, values, strict=True)}
        rows.append({"stage": stage, "scores": chosen, "scores_original_prompt": original})
    return rows


def lineage(losses: list[float] | None) -> dict[str, Any]:
    """Three candidates a task, of which the second is chosen; without losses the original alone."""
    tasks = []
    for number, task in enumerate(ORDER):
        candidates = [{"instruction": f"wording {i}", "loss": loss + number, "rows": 8} for i, loss in enumerate(losses or [])]
        prompt = {
            "chosen": 1 if losses else 0,
            "candidates": candidates or [{"instruction": "wording 0", "loss": None, "rows": 0}],
        }
        history = [
            {"step": step, "epoch": step / 3, "loss": 4.0 / step, "grad_norm": 1.0, "learning_rate": 0.1} for step in (1, 2, 3)
        ]
        tasks.append({"task": task, "prompt": prompt, "rows": 24, "history": history})
    return {"base": {"fingerprint": "f1"}, "versions": {"torch": "1"}, "tasks": tasks}


def write(path: str, content: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content), encoding="utf-8")


def read_csv(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def metrics() -> dict[str, Any]:
    return json.loads(Path("metrics/cl.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The repository's parameters with the four embedded tasks in a fixed order, all scores, and the last model's lineage."""
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    tasks = {task: {"after": after} for task, after in zip(ORDER, ["base", *ORDER[:-1]], strict=True)}
    params["sequence"] |= {"name": "by_hand", "tasks": tasks, "last": ORDER[-1]}
    params["method"] |= {"name": "lora_inc_sapo", "selector": "sapo", "paraphrases": True}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    write("metrics/scores/xsum.json", {"rows": score_rows()})
    write("models/xsum/lineage.json", lineage(LOSSES))


def test_metrics_are_those_worked_by_hand() -> None:
    report()
    written = metrics()
    expected = {"AP": AP, "BWT": BWT, "FWT": FWT, "BWT_final": BWT_FINAL, "forgetting": FORGETTING, "new_task": NEW_TASK}
    assert written["rouge_l"] == pytest.approx(expected, abs=1e-4)
    assert written["exact_match"] == pytest.approx({name: value / 2 for name, value in expected.items()}, abs=1e-4)
    lower = {"AP": 1, "new_task": 1, "FWT": 1, "BWT": 0, "BWT_final": 0, "forgetting": 0}
    under_original = {name: value - lower[name] for name, value in expected.items()}
    assert written["original_prompt"]["rouge_l"] == pytest.approx(under_original, abs=1e-4)
    assert (written["method"], written["sequence"]) == ("lora_inc_sapo", "by_hand")
    assert (written["base_fingerprint"], written["versions"]) == ("f1", {"torch": "1"})


def test_tables_hold_every_score_candidate_and_step() -> None:
    report()
    scores = read_csv("plots/scores.csv")
    assert [(row["stage"], row["task"]) for row in scores] == [(stage, task) for stage in ["base", *ORDER] for task in ORDER]
    assert [float(row["rouge_l"]) for row in scores] == [value for line in ROUGE_L for value in line]
    assert [float(row["exact_match"]) for row in scores] == [value / 2 for line in ROUGE_L for value in line]
    candidates = read_csv("plots/candidates.csv")
    assert [(row["task"], int(row["candidate"])) for row in candidates] == [(task, i) for task in ORDER for i in range(3)]
    assert [float(row["loss"]) for row in candidates] == [loss + number for number in range(4) for loss in LOSSES]
    assert [row["chosen"] for row in candidates] == ["False", "True", "False"] * 4
    training = read_csv("plots/training.csv")
    assert [(row["task"], row["step"]) for row in training] == [(task, str(step)) for task in ORDER for step in (1, 2, 3)]
    assert [float(row["loss"]) for row in training] == [4.0 / step for step in (1, 2, 3)] * 4


@pytest.mark.parametrize("losses", [LOSSES, None], ids=["candidates", "original_prompt"])
def test_every_figure_is_drawn(losses: list[float] | None) -> None:
    write("models/xsum/lineage.json", lineage(losses))
    report()
    for name in IMAGES:
        with Image.open(Path("plots") / name) as image:
            assert image.format == "PNG"
            assert image.width >= 600, name
            assert image.height >= 300, name
            pixels = np.asarray(image.convert("L"))
        assert 0.005 < (pixels < 200).mean() < 0.9, f"{name} is blank or black"
        assert all((part < 200).any() for half in np.array_split(pixels, 2) for part in np.array_split(half, 2, axis=1)), name


def test_figures_tell_other_numbers_apart_and_repeat_the_same_ones() -> None:
    report()
    first = {name: (Path("plots") / name).read_bytes() for name in IMAGES}
    report()
    assert first == {name: (Path("plots") / name).read_bytes() for name in IMAGES}
    rows = score_rows()
    rows[2]["scores"]["xsum"]["rouge_l"] = 90.0
    changed = lineage([2.5, 0.5, 3.0])
    changed["tasks"][0]["history"][1]["loss"] = 3.5
    write("metrics/scores/xsum.json", {"rows": rows})
    write("models/xsum/lineage.json", changed)
    report()
    assert [name for name in IMAGES if (Path("plots") / name).read_bytes() == first[name]] == []


def test_a_method_with_the_original_prompt_has_no_candidates_and_still_its_metrics() -> None:
    write("models/xsum/lineage.json", lineage(None))
    report()
    assert read_csv("plots/candidates.csv") == []
    assert Path("plots/candidates.csv").read_text() == "task,candidate,loss,rows,chosen\n"
    assert metrics()["rouge_l"]["BWT"] == pytest.approx(BWT, abs=1e-4)


@pytest.mark.parametrize("kind", ["scores", "scores_original_prompt"])
def test_fault_04_a_missing_score_is_named_and_a_longer_name_is_no_match(kind: str) -> None:
    rows = score_rows()
    rows[3][kind]["xsum_2"] = rows[3][kind].pop("xsum")
    write("metrics/scores/xsum.json", {"rows": rows})
    with pytest.raises(DataError, match="'xsum'"):
        report()
    assert not Path("metrics/cl.json").exists()


@pytest.mark.parametrize("metric", ["rouge_l", "exact_match"])
def test_fault_04_a_missing_metric_is_named(metric: str) -> None:
    rows = score_rows()
    del rows[0]["scores"]["reuters_r8"][metric]
    write("metrics/scores/xsum.json", {"rows": rows})
    with pytest.raises(DataError, match=metric):
        report()


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_fault_04_a_score_that_is_no_number_is_an_error(value: float | None) -> None:
    rows = score_rows()
    rows[4]["scores"]["reuters_r8"]["rouge_l"] = value
    write("metrics/scores/xsum.json", {"rows": rows})
    with pytest.raises(DataError):
        report()
    assert not Path("metrics/cl.json").exists()


@pytest.mark.parametrize("stage", range(5))
def test_fault_04_a_missing_stage_is_an_error_that_names_file_and_stages(stage: int) -> None:
    rows = score_rows()
    del rows[stage]
    write("metrics/scores/xsum.json", {"rows": rows})
    with pytest.raises(DataError, match=r"metrics/scores/xsum\.json .* expected base, reuters_r8"):
        report()


@pytest.mark.parametrize("path", ["metrics/scores/xsum.json", "models/xsum/lineage.json", "params.yaml"])
def test_fault_04_a_missing_file_is_named(path: str) -> None:
    Path(path).unlink()
    with pytest.raises(DataError, match=f"{path} is missing"):
        report()
    assert not Path("metrics/cl.json").exists()


def test_stages_in_another_order_are_refused() -> None:
    rows = score_rows()
    rows[1], rows[2] = rows[2], rows[1]
    write("metrics/scores/xsum.json", {"rows": rows})
    with pytest.raises(DataError, match=r"metrics/scores/xsum\.json"):
        report()


def test_a_sequence_of_one_task_is_reported() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["sequence"] |= {"tasks": {"xsum": {"after": "base"}}, "last": "xsum"}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    first, *_, last = score_rows()
    write("metrics/scores/xsum.json", {"rows": [first, last]})
    write("models/xsum/lineage.json", lineage(LOSSES) | {"tasks": lineage(LOSSES)["tasks"][3:]})
    report()
    assert metrics()["rouge_l"]["AP"] == metrics()["rouge_l"]["new_task"] == 20
    assert all((Path("plots") / name).stat().st_size > 5000 for name in IMAGES)
