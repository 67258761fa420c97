"""report, run on scores and a lineage made by hand."""

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from report import report
from sapo.runtime.errors import DataError
from sapo.artifacts.run_record import prompt_hash

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
TEST_ROWS = 20
FORGETTING = ((70 - 50) + (84 - 75) + (40 - 37)) / 3
NEW_TASK = (70 + 80 + 40 + 20) / 4
LOSSES = [2.5, 1.25, 3.0]  # of each task's candidates, the original first


def weights(stage: str) -> bytes:
    return f"weights of {stage}".encode()


def sha(stage: str) -> str | None:
    return None if stage == "base" else hashlib.sha256(weights(stage)).hexdigest()


def asked(task: str, trained: bool) -> str:
    return prompt_hash(f"{'chosen' if trained else 'original'} {task}", "", "en")


SETTINGS = {"prompt": {"max_tokens": 256}, "dtype": "float32", "template_options": {}}
VERSIONS = {"torch": "1"}


def score_rows() -> list[dict[str, Any]]:
    rows = []
    for number, (stage, values) in enumerate(zip(["base", *ORDER], ROUGE_L, strict=True)):
        lower = 0 if stage == "base" else 1
        chosen = {task: {"rouge_l": v, "exact_match": v / 2} for task, v in zip(ORDER, values, strict=True)}
        original = {task: {"rouge_l": v - lower, "exact_match": (v - lower) / 2} for task, v in zip(ORDER, values, strict=True)}
        about = {
            task: {"rows": TEST_ROWS, "test": f"rows of {task}", "about": f"about {task}", "prompt": asked(task, i < number)}
            for i, task in enumerate(ORDER)
        }
        run = {"base": "f1", "adapter": sha(stage), "settings": SETTINGS | {"evaluate": {"engine": "transformers"}}}
        run |= {"tasks": about, "versions": VERSIONS, "device": "cpu"}
        rows.append({"stage": stage, "scores": chosen, "scores_original_prompt": original, "run": run})
    return rows


def row_lines(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Twenty rows with each score as their mean: half of them above it, half below."""
    kinds = {"chosen": "scores", "original": "scores_original_prompt"}
    spread = [1.0, -1.0] * (TEST_ROWS // 2)
    return [
        {"stage": row["stage"], "task": task, "prompt": prompt}
        | {metric: [value + part for part in spread] for metric, value in of.items()}
        for row in rows
        for prompt, kind in kinds.items()
        for task, of in row[kind].items()
    ]


def lineage(losses: list[float] | None) -> dict[str, Any]:
    """Three candidates a task, of which the second is chosen; without losses the original alone."""
    tasks = []
    for number, (task, after) in enumerate(zip(ORDER, ["base", *ORDER], strict=False)):
        candidates = [{"instruction": f"wording {i}", "loss": loss + number, "rows": 8} for i, loss in enumerate(losses or [])]
        prompt = {
            "chosen": 1 if losses else 0,
            **{"original": f"original {task}", "suffix": "", "language": "en"},
            "candidates": candidates or [{"instruction": "wording 0", "loss": None, "rows": 0}],
        }
        history = [
            {"step": step, "epoch": step / 3, "loss": 4.0 / step, "grad_norm": 1.0, "learning_rate": 0.1} for step in (1, 2, 3)
        ]
        run = {"base": "f1", "started_from": sha(after), "train": f"rows of {task}", "prompt": asked(task, True), "seed": 42}
        run |= {"settings": SETTINGS | {"lora": {"r": 4}}, "versions": VERSIONS, "device": "cpu"}
        tasks.append({"task": task, "prompt": prompt, "rows": 24, "run": run, "history": history})
    made = {"method": {"name": "lora_inc_sapo"}, "seed": 42, "versions": VERSIONS}
    return {"base": {"fingerprint": "f1", "name": "smollm2_135m"}, **made, "tasks": tasks}


def write(path: str, content: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content), encoding="utf-8")


def write_scores(rows: list[dict[str, Any]], last: str = ORDER[-1]) -> None:
    """The files of scores after stage `last`, means and rows."""
    write(f"metrics/scores/{last}.json", {"rows": rows})
    text = "".join(json.dumps(line) + "\n" for line in row_lines(rows))
    Path("metrics/rows").mkdir(exist_ok=True)
    Path(f"metrics/rows/{last}.jsonl").write_text(text, encoding="utf-8")


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
    write("models/xsum/lineage.json", lineage(LOSSES))
    Path("models/xsum/adapter_model.safetensors").write_bytes(weights("xsum"))
    write_scores(score_rows())
    for name in ["evaluate-base", *(f"{script}-{task}" for task in ORDER for script in ("select", "train", "evaluate"))]:
        write(f"metrics/provenance/{name}.json", {"seconds": 2.5, "code": {"revision": "c1", "dirty": False}})


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
    write_scores(rows)
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
    rows = [score_rows()[0], score_rows()[-1]]
    for row in rows:
        row["run"]["tasks"] = {"xsum": row["run"]["tasks"]["xsum"]}
    write_scores(rows)
    made = lineage(LOSSES)
    made["tasks"] = made["tasks"][3:]
    made["tasks"][0]["run"]["started_from"] = None
    write("models/xsum/lineage.json", made)
    report()
    assert metrics()["rouge_l"]["AP"] == metrics()["rouge_l"]["new_task"] == 20
    assert all((Path("plots") / name).stat().st_size > 5000 for name in IMAGES)


def test_a_report_says_what_was_tested_with_what_and_how_sure_its_numbers_are(capsys: pytest.CaptureFixture[str]) -> None:
    report()
    written = metrics()
    assert (written["seed"], written["device"], written["dtype"]) == (42, "cpu", "float32")
    assert written["test_rows"] == dict.fromkeys(ORDER, TEST_ROWS)
    assert re.fullmatch("[0-9a-f]{64}", written["test_fingerprint"])
    for kind in (written, written["original_prompt"]):
        for metric in ("rouge_l", "exact_match"):
            for name, value in kind[metric].items():
                low, high = kind[f"{metric}_interval"][name]
                assert low <= value <= high
    low, high = written["rouge_l_interval"]["AP"]  # four means of 20 rows that lie 1 above or below
    assert (high - low) / 2 == pytest.approx(2.093 / (20 * 4 - 4) ** 0.5, rel=0.1)
    printed = capsys.readouterr().out
    assert f"ROUGE-L (%): AP {written['rouge_l']['AP']:.1f} [{low:.1f}, {high:.1f}]" in printed
    assert "95 % interval over the choice of test rows; other seeds are not in it" in printed
    for row in read_csv("plots/scores.csv"):
        assert float(row["rouge_l_low"]) <= float(row["rouge_l"]) <= float(row["rouge_l_high"])


def test_when_and_where_every_stage_ran_is_gathered_apart_from_the_metrics() -> None:
    write("metrics/provenance/train-xsum.json", {"seconds": 4.0, "code": {"revision": "c2", "dirty": True}})
    report()
    gathered = json.loads(Path("metrics/provenance.json").read_text())
    assert len(gathered["stages"]) == 13
    assert gathered["seconds"] == 12 * 2.5 + 4
    assert gathered["code"] == [{"revision": "c1", "dirty": False}, {"revision": "c2", "dirty": True}]
    Path("metrics/provenance/train-xsum.json").unlink()
    with pytest.raises(DataError, match=r"metrics/provenance/train-xsum\.json is missing"):
        report()


@pytest.mark.parametrize(
    ("field", "value"), [("method", {"name": "olora"}), ("seed", 7), ("base", {"fingerprint": "f1", "name": "tiny_llama"})]
)
def test_models_of_another_method_seed_or_base_are_not_reported_under_these_parameters(field: str, value: Any) -> None:
    write("models/xsum/lineage.json", lineage(LOSSES) | {field: value})
    with pytest.raises(DataError, match=r"params\.yaml has .* but the models were trained with"):
        report()


def test_rows_whose_means_are_other_scores_and_another_adapter_are_refused() -> None:
    rows = score_rows()
    rows[2]["scores"]["xsum"]["exact_match"] += 1
    write("metrics/scores/xsum.json", {"rows": rows})
    with pytest.raises(DataError, match=r"rows of xsum after election_tweets have a mean exact_match of .* different runs"):
        report()
    write_scores(score_rows())
    Path("models/xsum/adapter_model.safetensors").write_bytes(b"others")
    with pytest.raises(DataError, match=r"row xsum: adapter is not that of the models"):
        report()
    assert not Path("metrics/cl.json").exists()


@pytest.mark.parametrize("bad", [None, float("nan"), "50", True])
def test_fault_04_a_row_score_that_is_no_number_is_named(bad: Any) -> None:
    lines = row_lines(score_rows())
    lines[7]["rouge_l"][3] = bad
    Path("metrics/rows/xsum.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    place = "line 8" if bad != bad else "xsum after base, row 3: rouge_l is"  # NaN is no JSON to begin with
    with pytest.raises(DataError, match=rf"metrics/rows/xsum\.jsonl.*{place}.*not a finite number"):
        report()
