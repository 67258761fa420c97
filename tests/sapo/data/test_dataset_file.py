"""What a task's file makes of a row: a template that evaluates nothing, and labels by value."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laboratory import REPOSITORY
from sapo.artifacts.task import Example
from sapo.data.dataset_file import DatasetTask, parts, read_dataset_task
from sapo.runtime.errors import DataError


def task(**changes: Any) -> DatasetTask:
    about = {"files": "a.csv", "sentence": "{text}", "label": "label", "instruction": "Do it."}
    return DatasetTask.model_validate(about | changes)


def example(row: dict[str, Any], **changes: Any) -> Example:
    return task(**changes).example({"text": "a text", "label": "x"} | row, "row 1")


@given(around=st.text(), value=st.text())
def test_braces_of_the_template_are_written_twice_and_those_of_a_row_stay(around: str, value: str) -> None:
    escaped = around.replace("{", "{{").replace("}", "}}")
    found = "".join(text + (value if column else "") for text, column in parts(f"{escaped}{{a}}{escaped}"))
    assert found == f"{around}{value}{around}"


def test_a_row_s_text_is_never_taken_for_a_template() -> None:
    row = {"text": "{label} {{x}} {0.__class__}", "other": "{text}"}
    assert example(row, sentence="{text} | {other}").sentence == "{label} {{x}} {0.__class__} | {text}"


@pytest.mark.parametrize(
    "name",
    ["text.__class__", "text.upper", "text[0]", "0", "label.0", "choices.text.2", "choices.-1", "a.b.c"],
)
def test_nothing_but_columns_and_their_parts_can_be_named(name: str) -> None:
    row = {"choices": {"text": ["one", "two"]}, "a": {"b": "c"}}
    with pytest.raises(DataError, match="row 1: there is no column"):
        example(row, sentence=f"{{{name}}}")


def test_a_part_of_a_column_and_a_name_with_a_point_can_be_used() -> None:
    row = {"choices": {"text": ["one", "two"]}, "a.b": "point", "a": {"b": "part"}, "odd name (en)": 7}
    written = "{choices.text.1} {a.b} {odd name (en)}"
    assert example(row, sentence=written).sentence == "two point 7"
    assert task(sentence=written).columns == ["choices.text.1", "a.b", "odd name (en)", "label"]


LISTED, MAPPED = ["bad", "good"], {-1: "bad", 1: "good", 2: "good", "?": " unclear "}


@pytest.mark.parametrize(
    ("labels", "value", "label"),
    [
        (LISTED, 0, "bad"),
        (LISTED, 1.0, "good"),  # a column of whole numbers with gaps
        (LISTED, True, "good"),
        (LISTED, " good ", "good"),
        (["1", "0"], 1, "1"),  # the text, not the place in the list
        (MAPPED, -1, "bad"),
        (MAPPED, 2, "good"),
        (MAPPED, "?", "unclear"),
        ({False: "no", True: "yes"}, 1, "yes"),
        ([], "free text ", "free text "),
        ([], 7.0, "7"),
        ([], 0.5, "0.5"),
        ([], "", ""),
    ],
)
def test_a_label_by_its_value(labels: Any, value: Any, label: str) -> None:
    assert example({"label": value}, labels=labels).references == (label,)


def test_several_right_answers() -> None:
    assert example({"label": ["a", "b"]}).references == ("a", "b")
    assert example({"answers": {"text": ["a", 3]}}, label="answers.text").references == ("a", "3")


@pytest.mark.parametrize(
    ("labels", "value"),
    [(LISTED, 2), (LISTED, -1), (LISTED, "Good"), (MAPPED, 0), (MAPPED, "1"), (MAPPED, "bad")],
)
def test_a_label_that_is_not_named_is_refused(labels: Any, value: Any) -> None:
    with pytest.raises(DataError, match=r"row 1: the label .* is not among 'labels'"):
        example({"label": value}, labels=labels)


@pytest.mark.parametrize("labels", [[], LISTED, MAPPED])
@pytest.mark.parametrize("value", [None, math.nan])
def test_a_label_that_is_null_is_refused(labels: Any, value: Any) -> None:
    with pytest.raises(DataError, match=r"the column 'label' is empty \(null\)"):
        example({"label": value}, labels=labels)


def test_several_values_of_one_answer_are_one_label() -> None:
    assert task(labels=MAPPED).answers == ["bad", "good", "unclear"]


def test_the_examples_of_the_document_can_be_used(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs/data.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "sentence:" in block]
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.yaml").write_text(block, encoding="utf-8")
    reviews, _ = (read_dataset_task(tmp_path / f"{number}.yaml") for number in range(2))
    row = {"title": "Fine", "body": "It works.", "stars": 5}
    assert reviews.example(row, "row 1") == Example("Fine: It works.", "good")
    shipped = REPOSITORY / "src/sapo/data/hub/ag_news.yaml"
    assert shipped.read_text(encoding="utf-8").startswith(blocks[1])
    assert read_dataset_task(shipped).example({"text": "A match.", "label": 1}, "row 1").label == "Sports"
