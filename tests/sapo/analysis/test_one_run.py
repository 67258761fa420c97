"""What is recorded beside the numbers, and that numbers of different runs are refused by the row and the field."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sapo.runtime.errors import DataError
from sapo.config import Params
from sapo.artifacts.run_record import WEIGHTS, answers_record, check_one_run, data_fingerprint, prompt_hash, selection_record, training_record
from sapo.artifacts.task import Example, Task, save_task

REPOSITORY = Path(__file__).parents[2]
ORDER = ["one", "two", "three"]


@pytest.fixture
def params() -> Params:
    return Params.model_validate(yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8")))


@pytest.fixture
def run(tmp_path: Path, params: Params) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """Rows, lineage and the last adapter's hash of a run whose files are real, though its weights are only bytes."""
    for name in ORDER:
        rows = [Example(f"{name} {n}", "yes") for n in range(3)]
        (tmp_path / name).mkdir()
        save_task(tmp_path / name, Task(name, f"Say {name}.", "Answer:", [], "en", None, {}, rows, rows[:2]))
        (tmp_path / f"{name}-model").mkdir()
        (tmp_path / f"{name}-model" / WEIGHTS).write_bytes(name.encode())
    asked = {name: prompt_hash(f"Say {name}.", "Answer:", "en") for name in ORDER}
    score_rows = [{"stage": "base", "run": answers_record(params, "f", None, tmp_path, asked)}]
    entries: list[dict[str, Any]] = []
    start = None
    for name in ORDER:
        prompt = {
            "instruction": f"Better {name}.",
            "original": f"Say {name}.",
            "suffix": "Answer:",
            "language": "en",
            "selector": "sapo",
        }
        measured = selection_record(params, "f", start, tmp_path / name)
        trained = training_record(params, "f", start, tmp_path / name, prompt)
        entries.append({"task": name, "prompt": prompt | {"run": measured}, "run": trained})
        start = tmp_path / f"{name}-model" / WEIGHTS
        asked[name] = prompt_hash(f"Better {name}.", "Answer:", "en")
        score_rows.append({"stage": name, "run": answers_record(params, "f", start, tmp_path, asked)})
    return copy.deepcopy(score_rows), copy.deepcopy({"tasks": entries}), score_rows[-1]["run"]["adapter"]


def fields(record: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every value in a record; what a template is given is one value."""
    found = []
    for key, value in record.items():
        nested = isinstance(value, dict) and key != "template_options"
        found += fields(value, (*prefix, key)) if nested else [(*prefix, key)]
    return found


def change(record: dict[str, Any], field: tuple[str, ...]) -> None:
    for key in field[:-1]:
        record = record[key]
    record[field[-1]] = "another" if record[field[-1]] != "another" else "one more"


def refused(run: tuple[list[dict[str, Any]], dict[str, Any], str], spoil: Callable[[list[Any], list[Any]], None]) -> str:
    rows, lineage, adapter = copy.deepcopy(run)
    spoil(rows, lineage["tasks"])
    with pytest.raises(DataError) as refusal:
        check_one_run(rows, lineage, adapter, "scores.json")
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_a_whole_run_passes_and_its_records_name_no_place(run: tuple, tmp_path: Path) -> None:
    rows, lineage, adapter = run
    check_one_run(rows, lineage, adapter, "scores.json")
    assert str(tmp_path) not in str(run)
    assert rows[0]["run"]["tasks"]["one"]["rows"] == 2
    assert "batch_tokens" not in str(run)  # changes memory, not results
    assert len(data_fingerprint(rows[0]["run"])) == 64


@pytest.mark.parametrize("number", range(4))
def test_a_row_of_another_run_is_refused_by_its_name_and_field(run: tuple, number: int) -> None:
    name = ["base", *ORDER][number]
    for field in fields(run[0][number]["run"]):
        message = refused(run, lambda rows, _, field=field: change(rows[number]["run"], field))
        dotted = ".".join(field)
        if number or field[0] == "adapter" or field[-1] == "prompt":
            assert f"scores.json, row {name}: {dotted} is not" in message
        else:  # the base model's row is what others are compared with
            assert f": {dotted} is not" in message or f": {field[-1]} is not" in message


@pytest.mark.parametrize("number", range(3))
def test_a_task_trained_in_another_run_is_refused_by_its_name_and_field(run: tuple, number: int) -> None:
    for field in fields(run[1]["tasks"][number]["run"]):
        message = refused(run, lambda _, tasks, field=field: change(tasks[number]["run"], field))
        assert field[-1] in message or (field[0] == "started_from" and "adapter" in message)


@pytest.mark.parametrize("field", ["base", "adapter", "train"])
def test_candidates_measured_in_another_run_are_refused(run: tuple, field: str) -> None:
    message = refused(run, lambda _, tasks: change(tasks[1]["prompt"]["run"], (field,)))
    assert message.startswith(f"the candidates of two: {field} is not that of its training")


def test_a_record_that_is_missing_is_refused(run: tuple) -> None:
    assert "row two has no record" in refused(run, lambda rows, _: rows[2].pop("run"))
    assert "lineage of three has no record" in refused(run, lambda _, tasks: tasks[2].pop("run"))
    assert "versions.torch is not" in refused(run, lambda rows, _: rows[1]["run"]["versions"].pop("torch"))


def test_rows_in_another_order_are_refused(run: tuple) -> None:
    def swap(rows: list[Any], _: list[Any]) -> None:
        rows[1]["run"], rows[2]["run"] = rows[2]["run"], rows[1]["run"]

    assert "row one: adapter is not that of the models" in refused(run, swap)


def test_a_method_without_measured_candidates_passes(run: tuple) -> None:
    rows, lineage, adapter = run
    for entry in lineage["tasks"]:
        entry["prompt"]["run"] = None
    check_one_run(rows, lineage, adapter, "scores.json")
