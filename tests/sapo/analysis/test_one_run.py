"""Numbers of different runs are refused, by the stage or task and the field."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from by_hand import ByHand, run_by_hand
from sapo.analysis.one_run import check_one_run
from sapo.artifacts.schema import Part
from sapo.runtime.errors import OtherRunError

ORDER = ["one", "two", "three"]
ROUGE_L = [[10, 20, 30], [50, 26, 28], [56, 70, 36], [41, 64, 90]]
Field = tuple[str, ...]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    """A run whose files and records are real; not to be changed. Its folder is the working folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("one_run"))
        yield run_by_hand(ORDER, ROUGE_L)


@pytest.fixture
def run(made: ByHand) -> ByHand:
    """A copy to be changed."""
    return deepcopy(made)


def check(run: ByHand) -> None:
    check_one_run(run.stages, run.lineage, run.prompts, run.adapter, "scores.json")


def refusal(run: ByHand) -> str:
    with pytest.raises(OtherRunError) as refused:
        check(run)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def fields(record: dict[str, Any], prefix: Field = ()) -> list[Field]:
    """The path of every value in a record; what a template is given is one value."""
    found = []
    for key, value in record.items():
        nested = isinstance(value, dict) and key != "template_options"
        found += fields(value, (*prefix, key)) if nested else [(*prefix, key)]
    return found


def another(value: Any) -> Any:
    """A value of the same type that is not the same."""
    if isinstance(value, dict):
        return value | {"another": True}
    if isinstance(value, list):
        return [*value, "another"]
    if isinstance(value, bool):
        return not value
    if value == "stacked":
        return "single"
    return value + 1 if isinstance(value, int | float) else f"another than {value}"


def changed(record: Part, field: Field) -> Part:
    """The record with another value in one field."""
    content = record.model_dump(mode="json")
    inner = content
    for key in field[:-1]:
        inner = inner[key]
    inner[field[-1]] = another(inner[field[-1]])
    return type(record).model_validate(content)


def with_stage(run: ByHand, number: int, change: Callable[[Part], Part]) -> ByHand:
    """The run with a changed record of one stage's answers."""
    run = deepcopy(run)
    stage = run.stages[number]
    run.stages[number] = stage.model_copy(update={"run": change(stage.run)})
    return run


def with_training(run: ByHand, number: int, change: Callable[[Part], Part]) -> ByHand:
    """The run with a changed record of one task's training."""
    run = deepcopy(run)
    run.with_entry(number, run=change(run.lineage.tasks[number].run))
    return run


def test_a_whole_run_passes_and_its_records_name_no_place(run: ByHand) -> None:
    check(run)
    records = [one.run for one in run.stages] + [entry.run for entry in run.lineage.tasks]
    records += [prompt.run for prompt in run.prompts.values()]
    text = json.dumps([record.model_dump() for record in records])
    assert str(Path.cwd()) not in text
    assert "batch_tokens" not in text  # changes memory, not results
    assert run.stages[0].run.tasks["one"].rows == 20


@pytest.mark.parametrize("number", range(4))
def test_a_stage_of_another_run_is_refused_by_its_name_and_field(run: ByHand, number: int) -> None:
    for field in fields(run.stages[number].run.model_dump(mode="json")):
        message = refusal(with_stage(run, number, lambda record, field=field: changed(record, field)))
        dotted = ".".join(field)
        if number or field[0] == "adapter" or field[-1] == "prompt":
            assert f"scores.json, stage {['base', *ORDER][number]}: {dotted} is not" in message
        else:  # the base model's stage is what others are compared with
            assert f": {dotted} is not" in message or f": {field[-1]} is not" in message


@pytest.mark.parametrize("number", range(3))
def test_a_task_trained_in_another_run_is_refused_by_its_name_and_field(run: ByHand, number: int) -> None:
    # What is read of earlier tasks is a list of its own, and has its own test
    for field in fields(run.lineage.tasks[number].run.model_dump(mode="json", exclude={"earlier"})):
        message = refusal(with_training(run, number, lambda record, field=field: changed(record, field)))
        assert field[-1] in message or (field[0] == "previous" and "adapter" in message)


@pytest.mark.parametrize(
    "field", ["base", "adapter", "train", "settings.dtype", "settings.prompt.max_tokens"]
)
def test_candidates_measured_in_another_run_are_refused(run: ByHand, field: str) -> None:
    prompt = run.prompts["two"]
    assert prompt.run
    run.prompts["two"] = prompt.model_copy(update={"run": changed(prompt.run, tuple(field.split(".")))})
    assert refusal(run).startswith(f"the candidates of two: {field} is not that of its training")


def test_a_record_without_the_version_of_a_library_is_refused(run: ByHand) -> None:
    def without_torch(record: Part) -> Part:
        versions = {name: version for name, version in record.versions.items() if name != "torch"}
        return record.model_copy(update={"versions": versions})

    assert "stage one: versions.torch is not" in refusal(with_stage(run, 1, without_torch))
    assert "lineage of three: versions.torch is not" in refusal(with_training(run, 2, without_torch))


def test_stages_in_another_order_are_refused(run: ByHand) -> None:
    one, two = run.stages[1:3]
    run.stages[1:3] = [
        one.model_copy(update={"run": two.run}),
        two.model_copy(update={"run": one.run}),
    ]
    assert "stage one: adapter is not that of the models" in refusal(run)


def test_a_method_without_measured_candidates_passes(run: ByHand) -> None:
    run.prompts = {task: prompt.model_copy(update={"run": None}) for task, prompt in run.prompts.items()}
    check(run)


READ_AGAIN = [({"adapter": "joint"}, 10), ({"replay": 0.25}, 3), ({"adapter": "single", "replay": 0.01}, 1)]


@pytest.mark.parametrize(("method", "rows"), READ_AGAIN)
def test_trainings_that_read_earlier_rows_again_must_read_those_that_were_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: dict[str, Any], rows: int
) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_by_hand(ORDER, ROUGE_L, **method)
    check(run)
    earlier = [entry.run.earlier for entry in run.lineage.tasks]
    assert [[one.task for one in again] for again in earlier] == [[], ["one"], ["one", "two"]]
    assert [[one.rows for one in again] for again in earlier] == [[], [rows], [rows, rows]]
    one, two = earlier[2]
    for wrong in (
        [],
        [one],
        [two, one],
        [one, two, two],
        [one, two.model_copy(update={"rows": rows + 1})],
        [one, two.model_copy(update={"train": "another"})],
        [one, two.model_copy(update={"prompt": one.prompt})],
    ):
        changed = with_training(run, 2, lambda record, w=wrong: record.model_copy(update={"earlier": w}))
        assert "the lineage of three: earlier is not that of the tasks before it" in refusal(changed)


@pytest.mark.parametrize("method", [{"adapter": "single"}, {"adapter": "joint"}, {"replay": 0.1}])
def test_an_adapter_whose_trainings_are_of_another_method_is_refused(
    run: ByHand, method: dict[str, Any]
) -> None:
    changed = run.lineage.method.model_copy(update=method)
    run.lineage = run.lineage.model_copy(update={"method": changed})
    refusal(run)
