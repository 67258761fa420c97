"""A task survives the trip through its files, and a file that was damaged or exchanged does not pass."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.runtime.errors import DataError
from sapo.artifacts.task import Example, Task, check_example, load_task, save_task

AWKWARD = [
    "{x} {{x}} {0} }{ %s $y",
    'she said "yes", he said \'no\' \\ "\\n"',
    "支持 文本: naïve 🙂 e\u0301",
    "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven",
    "line\nline\r\nline\rline\ttab\x00nul",
    "<|im_end|> </s> [INST]",
]
untimed = settings(deadline=None)  # how long a test takes depends on the machine
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)
examples = st.builds(Example, texts, texts)


def task(train: list[Example], test: list[Example], labels: list[str] | None = None) -> Task:
    return Task("tiny", "Say {it}.", 'In "one" word.', labels or [], "en", 8, {"wheel": "none"}, train, test)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_task(tmp_path / "tiny", task([Example("good", "yes"), Example("bad", "no")], [Example("fair", "yes")], ["yes", "no"]))
    return tmp_path / "tiny"


def test_awkward_texts_survive_the_round_trip(tmp_path: Path) -> None:
    rows = [Example(text, text) for text in AWKWARD]
    whole = replace(task(rows, rows[::-1]), instruction=" ".join(AWKWARD), suffix=AWKWARD[1])
    save_task(tmp_path / "tiny", whole)
    assert load_task(tmp_path / "tiny") == whole


@untimed
@given(train=st.lists(examples, max_size=4), test=st.lists(examples, max_size=4))
def test_every_task_of_stripped_texts_survives_the_round_trip(train: list[Example], test: list[Example]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_task(folder, task(train, test))
        assert load_task(folder) == task(train, test)


def test_fault_03_a_task_rewritten_in_place_is_read_anew(saved: Path) -> None:
    before = load_task(saved)
    after = replace(before, instruction="Another wording.", train=[Example("new", "no")])
    save_task(saved, after)
    assert load_task(saved) == after


def test_fault_19_a_trailing_slash_changes_nothing(saved: Path) -> None:
    assert load_task(f"{saved}/") == load_task(saved)


def test_fault_20_one_training_row_and_no_test_row_can_be_read(tmp_path: Path) -> None:
    smallest = task([Example("a", "b")], [])
    save_task(tmp_path, smallest)
    assert load_task(tmp_path) == smallest


@pytest.mark.parametrize(
    "row",
    [
        {"sentence": "", "label": "yes"},
        {"sentence": "bad", "label": ""},
        {"sentence": " \n", "label": "yes"},
        {"sentence": "bad"},
        {"label": "yes"},
        {},
        {"sentence": None, "label": "yes"},
        {"sentence": 3, "label": "yes"},
        {"sentence": "bad", "label": ["yes"]},
        {"sentence": "bad", "label": "maybe"},
        {"sentence": "bad", "label": "Yes"},
    ],
)
def test_an_empty_or_malformed_row_or_unknown_label_is_named_by_file_and_line(saved: Path, row: dict[str, Any]) -> None:
    (saved / "train.jsonl").write_text(f'{{"sentence": "good", "label": "yes"}}\n{json.dumps(row)}\n')
    with pytest.raises(DataError, match=r"train\.jsonl, line 2: "):
        load_task(saved)


@pytest.mark.parametrize("line", ["", "{", "[]", "7"])
def test_a_line_that_is_no_object_is_named_by_file_and_line(saved: Path, line: str) -> None:
    (saved / "test.jsonl").write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"test\.jsonl, line 1: "):
        load_task(saved)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_file_of_good_rows_that_was_changed_is_detected(saved: Path, split: str) -> None:
    path = saved / f"{split}.jsonl"
    path.write_text(path.read_text() + '{"sentence": "slipped in", "label": "no"}\n')
    with pytest.raises(DataError, match=rf"{split}\.jsonl is not the file that task\.json records"):
        load_task(saved)


@pytest.mark.parametrize("name", ["task.json", "train.jsonl", "test.jsonl"])
def test_fault_04_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        load_task(saved)


def test_outer_white_space_goes_and_the_message_names_the_place() -> None:
    assert check_example({"sentence": " a b\n", "label": " yes "}, ["yes"], "here") == Example("a b", "yes")
    with pytest.raises(DataError, match="here: label 'perhaps' is none of yes, no"):
        check_example({"sentence": "a", "label": "perhaps"}, ["yes", "no"], "here")
