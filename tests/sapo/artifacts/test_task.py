"""A task survives the trip through its files, and a file that was damaged or exchanged does not pass."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sapo.artifacts.task import (
    TASKS,
    Example,
    Task,
    check_example,
    load_task,
    read_about,
    save_task,
    split_path,
)
from sapo.runtime.errors import ArtifactError, DataError

AWKWARD = [
    "{x} {{x}} {0} }{ %s $y",
    'she said "yes", he said \'no\' \\ "\\n"',
    "支持 文本: naïve 🙂 e\u0301",
    "one\u2028two\u2029three\x85four\x0bfive\x0csix\x1cseven",
    "line\nline\r\nline\rline\ttab\x00nul",
    "<|im_end|> </s> [INST]",
]
# How long a test takes depends on the machine; every example writes the same files anew
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
examples = st.builds(
    Example, texts.filter(str.strip), st.just("") | texts, st.lists(texts, max_size=2).map(tuple)
)


def task(train: list[Example], test: list[Example], labels: list[str] | None = None) -> Task:
    return Task("tiny", "Say {it}.", 'In "one" word.', labels or [], "en", 8, {"wheel": "none"}, train, test)


def save(whole: Task) -> None:
    save_task(TASKS / "tiny", whole)


@pytest.fixture(autouse=True)
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the task `tiny` in the working folder."""
    monkeypatch.chdir(tmp_path)
    save(task([Example("good", "yes"), Example("bad", "no")], [Example("fair", "yes")], ["yes", "no"]))
    return TASKS / "tiny"


def test_awkward_texts_survive_the_round_trip() -> None:
    rows = [Example(text, text) for text in AWKWARD]
    whole = replace(task(rows, rows[::-1]), instruction=" ".join(AWKWARD), suffix=AWKWARD[1])
    save(whole)
    assert load_task("tiny") == whole


@untimed
@given(train=st.lists(examples, max_size=4), test=st.lists(examples, max_size=4))
def test_every_task_survives_the_round_trip(train: list[Example], test: list[Example]) -> None:
    save(task(train, test))
    assert load_task("tiny") == task(train, test)


def test_fault_03_a_task_rewritten_in_place_is_read_anew() -> None:
    before = load_task("tiny")
    after = replace(before, instruction="Another wording.", train=[Example("new", "no")])
    save(after)
    assert load_task("tiny") == after


def test_fault_19_a_trailing_slash_changes_nothing() -> None:
    assert load_task("tiny/") == load_task("tiny")


def test_fault_20_one_training_row_and_no_test_row_can_be_read() -> None:
    smallest = task([Example("a", "b")], [])
    save(smallest)
    assert load_task("tiny") == smallest


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
        {"sentence": "bad", "label": []},
        {"sentence": "bad", "label": ["yes", "maybe"]},
        {"sentence": "bad", "label": ["yes", 1]},
        {"sentence": "bad", "label": "maybe"},
        {"sentence": "bad", "label": "Yes"},
    ],
)
def test_an_empty_or_malformed_row_or_unknown_label_is_named_by_file_and_line(
    saved: Path, row: dict[str, Any]
) -> None:
    (saved / "train.jsonl").write_text(f'{{"sentence": "good", "label": "yes"}}\n{json.dumps(row)}\n')
    with pytest.raises(ArtifactError, match=r"^data/tasks/tiny/train\.jsonl, line 2"):
        load_task("tiny")


@pytest.mark.parametrize("line", ["", "{", "[]", "7"])
def test_a_line_that_is_no_object_is_named_by_file_and_line(saved: Path, line: str) -> None:
    (saved / "test.jsonl").write_text(f"{line}\n")
    with pytest.raises(ArtifactError, match=r"^data/tasks/tiny/test\.jsonl, line 1"):
        load_task("tiny")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_file_of_good_rows_that_was_changed_is_detected(saved: Path, split: str) -> None:
    path = saved / f"{split}.jsonl"
    path.write_text(path.read_text() + '{"sentence": "slipped in", "label": "no"}\n')
    with pytest.raises(ArtifactError, match=rf"{split}\.jsonl is not the file that task\.json records"):
        load_task("tiny")


@pytest.mark.parametrize("name", ["task.json", "train.jsonl", "test.jsonl"])
def test_fault_04_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match=f"^data/tasks/tiny/{name} is missing"):
        load_task("tiny")


def test_outer_white_space_stays_and_the_message_names_the_place() -> None:
    row = {"sentence": " a b\n", "label": " yes "}
    assert check_example(row, ["yes"], "here") == Example(" a b\n", " yes ")
    with pytest.raises(DataError, match="here: label 'perhaps' is none of yes, no"):
        check_example({"sentence": "a", "label": "perhaps"}, ["yes", "no"], "here")


def test_a_task_s_file_says_how_many_rows_lie_beside_it_and_their_hashes() -> None:
    about = read_about("tiny")
    assert (about.splits["train"].rows, about.splits["test"].rows) == (2, 1)
    assert {split: of.sha256 for split, of in about.splits.items()} == {
        split: hashlib.sha256(split_path("tiny", split).read_bytes()).hexdigest()
        for split in ("train", "test")
    }


@pytest.mark.parametrize("splits", [["train"], ["test"], []])
def test_a_task_s_file_without_both_splits_is_refused(saved: Path, splits: list[str]) -> None:
    content = json.loads((saved / "task.json").read_text())
    content["splits"] = {split: content["splits"][split] for split in splits}
    (saved / "task.json").write_text(json.dumps(content))
    with pytest.raises(
        ArtifactError, match=rf"^data/tasks/tiny/task\.json: splits: .*found {', '.join(splits) or 'none'}"
    ):
        read_about("tiny")


@pytest.mark.parametrize("field", ["instruction", "suffix", "labels"])
def test_half_a_character_in_a_task_s_texts_is_refused(saved: Path, field: str) -> None:
    content = json.loads((saved / "task.json").read_text())
    content[field] = ["yes \ud800"] if field == "labels" else "yes \ud800"
    (saved / "task.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=rf"^data/tasks/tiny/task\.json: {field}: .*lone surrogate"):
        read_about("tiny")
