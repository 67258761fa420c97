"""benchmarks/learnability.py with a tiny model: what it keeps, what it prints, where it goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laboratory import REPOSITORY

SCRIPT = REPOSITORY / "benchmarks/learnability.py"
TINY = [
    part
    for override in (
        "model=tiny_llama",
        "data.train_rows=8",
        "data.test_rows=4",
        "prompt.max_tokens=900",
        "evaluate.max_new_tokens=4",
    )
    for part in ("-S", override)
]


def results(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "learnability.json").read_text())["results"]
    return found


def test_what_was_measured_is_kept_and_only_what_is_missing_is_measured(
    command: Callable[..., str], tmp_path: Path
) -> None:
    command(SCRIPT, "--tasks", "truthful_qa", "--out", tmp_path, *TINY)
    [first] = results(tmp_path)
    printed = command(SCRIPT, "--tasks", "truthful_qa", "group_kinds", "--out", tmp_path, *TINY)
    kept, added = results(tmp_path)
    assert kept == first
    assert [stage["after"] for stage in added["stages"]] == ["base", "group_kinds"]
    assert all(len(scores) == 4 for scores in added["stages"][1]["rows"]["group_kinds"].values())
    assert len(added["stages"][1]["losses"]) == 2  # steps
    lines = [line for line in printed.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == ["group_kinds", "truthful_qa", "group_kinds"]
    command(SCRIPT, "--tasks", "group_kinds", "--out", tmp_path, "--again", *TINY)
    assert [one["tasks"] for one in results(tmp_path)] == [["truthful_qa"], ["group_kinds"]]


def test_other_settings_are_measured_anew_whatever_the_command_line_says(load: Callable[[str], Any]) -> None:
    learnability = load("learnability")
    plain = learnability.compose(TINY[1::2])
    same = (f"seed={plain.seed}", "train.batch_tokens=77", "selection.rows=3")
    for override in same:
        params = learnability.compose([*TINY[1::2], override])
        assert learnability.decided_by(params) == learnability.decided_by(plain), override
    for override in ("seed=9", "train.learning_rate=0.5", "data.max_words=9", "evaluate.max_new_tokens=5"):
        params = learnability.compose([*TINY[1::2], override])
        assert learnability.decided_by(params) != learnability.decided_by(plain), override


@pytest.mark.parametrize(
    "override", ["model.dtype=bfloat16", "train.dtype=bfloat16", "lora.save_dtype=float32"]
)
def test_settings_that_would_not_be_used_are_refused(
    override: str, command: Callable[..., str], tmp_path: Path
) -> None:
    refused = command(SCRIPT, "--tasks", "xsum", "--out", tmp_path, *TINY, "-S", override, fails=True)
    assert refused.startswith("error: this trains in float32")
    assert len(refused.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_tasks_of_a_sequence_may_have_unequal_test_rows(load: Callable[[str], Any]) -> None:
    learnability = load("learnability")
    scores = {"long": [0.0, 100.0, 50.0], "short": [100.0, 0.0]}
    rows = {task: dict.fromkeys(learnability.SHORT, values) for task, values in scores.items()}
    stages = [
        {"after": after, "training_s": 1.0, "answers_s": 1.0, "rows": rows} for after in ("base", *scores)
    ]
    printed = learnability.matrix({"tasks": list(scores), "probes": [], "settings": [], "stages": stages})
    assert "ROUGE-L: AP 50.0, " in printed
    assert "| short | 50 / 50 | 50 / 50 |" in printed


def test_a_sequence_is_tested_after_every_task_with_its_probes(
    command: Callable[..., str], tmp_path: Path
) -> None:
    pair = ["--sequences", "group_kinds,xsum", "--probes", "truthful_qa"]
    printed = command(SCRIPT, *pair, "--out", tmp_path, *TINY)
    [found] = results(tmp_path)
    assert [stage["after"] for stage in found["stages"]] == ["base", "group_kinds", "xsum"]
    assert all(stage["rows"].keys() == {"group_kinds", "xsum", "truthful_qa"} for stage in found["stages"])
    assert "forgetting" in printed
    assert command(SCRIPT, "--show", "--out", tmp_path).strip() in printed


def test_every_task_that_was_considered_can_be_drawn(load: Callable[[str], Any]) -> None:
    tasks = load("candidate_tasks")
    assert {path.stem for path in tasks.FOLDER.glob("*.yaml")} == tasks.CONSIDERED.keys()
    for name in tasks.NAMES:
        task = tasks.load(name, 8, 8, 24, 1)
        assert len(task.train) == len(task.test) == 8
        assert task.labels == [] or {row.label for row in task.train} <= set(task.labels)


def test_an_interval_holds_the_mean(load: Callable[[str], Any]) -> None:
    learnability = load("learnability")
    low, high = learnability.spread([0.0, 100.0] * 32).strip("[]").split(", ")
    assert float(low) < 50 < float(high)
    assert float(high) - float(low) == pytest.approx(25, abs=3)
