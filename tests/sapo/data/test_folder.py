"""Tasks of a folder of one's own, in the layout of the SuperNI and TRACE files."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.artifacts.task import Example, Task, load_task, save_task
from sapo.data.folder import language_of, load_folder_tasks, read_rows
from sapo.runtime.errors import DataError
from sapo.runtime.files import git_blob_id

ALL = (10**6, 10**6)  # more rows than any split here has
MOOD = {
    "instruction": "  Is the mood good or bad?\n",
    "suffix": "Answer good or bad. ",
    "labels": ["good", "bad"],
}
FREE = {"instruction": "", "suffix": "Answer:", "labels": []}
ROWS = {
    ("mood", "train"): [(" a fine day\n", "good "), ("rain, {rain} and rain", "bad"), ("naïve café", "good")],
    ("mood", "test"): [("a grey day", "bad"), ("a fine day", "good")],
    ("free", "train"): [("1 + 1", "2"), ("1 + 2\n\n= ?", "three, or\n3"), ("文本", "text")],
    ("free", "test"): [("2 + 2", "4")],
}
any_answer = st.text(st.characters(exclude_categories=["Cs"]))
untimed = settings(deadline=None)  # how long a test takes depends on the machine
any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    str.strip
)  # no half of a surrogate pair


def rows_of(pairs: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"sentence": sentence, "label": label} for sentence, label in pairs]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tasks: `mood` has labels, `free` has none and an empty instruction."""
    write(tmp_path / "instructions.json", {"mood": MOOD, "free": FREE})
    for (task, split), pairs in ROWS.items():
        write(tmp_path / task / f"{split}.json", rows_of(pairs))
    return tmp_path


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def load(folder: Path, name: str = "mood", rows: tuple[int, int] = ALL) -> Task:
    [task] = load_folder_tasks([name], str(folder), rows)
    return task


def refused(folder: Path, name: str = "mood") -> str:
    """What the error says."""
    with pytest.raises(DataError) as caught:
        load(folder, name)
    return str(caught.value)


def test_a_task_is_read_as_it_is_with_its_outer_white_space(folder: Path) -> None:
    assert load(folder) == Task(
        name="mood",
        instruction=MOOD["instruction"],
        suffix=MOOD["suffix"],
        labels=["good", "bad"],
        language="en",
        max_new_tokens=None,
        source={
            "git_blobs": {
                f"mood/{split}.json": git_blob_id(folder / f"mood/{split}.json")
                for split in ("train", "test")
            }
        }
        | {"train_rows_also_in_test": 1},
        train=[
            Example(" a fine day\n", "good "),
            Example("rain, {rain} and rain", "bad"),
            Example("naïve café", "good"),
        ],
        test=[Example("a grey day", "bad"), Example("a fine day", "good")],
    )


def test_fault_17_a_task_without_labels_or_instruction_is_a_task(folder: Path) -> None:
    task = load(folder, "free")
    assert (task.instruction, task.suffix, task.labels, task.language) == ("", "Answer:", [], "en")
    assert [(row.sentence, row.label) for row in task.train] == ROWS["free", "train"]
    assert [(row.sentence, row.label) for row in task.test] == ROWS["free", "test"]


def test_tasks_come_in_the_order_asked_for(folder: Path) -> None:
    for names in (["mood", "free"], ["free", "mood"], ["free"]):
        assert [task.name for task in load_folder_tasks(names, str(folder), ALL)] == names


@pytest.mark.parametrize("rows", [(2, 1), (1, 2), (3, 2), ALL])
def test_the_first_rows_are_taken_in_the_files_order(folder: Path, rows: tuple[int, int]) -> None:
    task, whole = load(folder, rows=rows), load(folder)
    assert (task.train, task.test) == (whole.train[: rows[0]], whole.test[: rows[1]])


def test_fault_20_one_training_row_and_one_test_row_are_enough(folder: Path) -> None:
    for split in ("train", "test"):
        write(folder / "mood" / f"{split}.json", rows_of([("a day", "good")]))
    task = load(folder)
    assert task.train == task.test == [Example("a day", "good")]
    assert load(folder, "free", (1, 1)).train == [Example("1 + 1", "2")]


@pytest.mark.parametrize(("rows", "shared"), [(ALL, 3), ((2, 10), 2), ((10, 1), 1), ((1, 1), 0)])
def test_training_texts_that_are_tested_are_counted_among_the_rows_taken_and_kept(
    folder: Path, rows: tuple[int, int], shared: int
) -> None:
    write(folder / "free/train.json", rows_of([(text, "x") for text in ("b", " a ", "b", "c")]))
    write(folder / "free/test.json", rows_of([(text, "y") for text in ("a", "b\n")]))
    task = load(folder, "free", rows)
    assert task.source["train_rows_also_in_test"] == shared
    assert [row.sentence for row in task.train] == ["b", " a ", "b", "c"][: rows[0]]


@pytest.mark.parametrize("name", ["mood", "free"])
def test_a_saved_task_is_loaded_as_it_was(folder: Path, tmp_path: Path, name: str) -> None:
    save_task(tmp_path / "saved", load(folder, name))
    assert load_task(tmp_path / "saved") == load(folder, name)


@untimed
@given(pairs=st.lists(st.tuples(any_text, any_answer | st.lists(any_answer, min_size=1)), min_size=1))
def test_rows_of_any_text_come_back(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str | list[str]]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.json"
    right = [[label] if isinstance(label, str) else label for _, label in pairs]
    expected = [Example(text, one[0], tuple(one[1:])) for (text, _), one in zip(pairs, right, strict=True)]
    assert [[*example.references] for example in expected] == right
    for escaped in (True, False):
        path.write_bytes(json.dumps(rows_of(pairs), ensure_ascii=escaped).encode())
        assert read_rows(path, "here", []) == expected
    task = Task("any", "", "Answer:", [], "en", None, {}, expected, expected)
    save_task(path.with_name("saved"), task)
    assert load_task(path.with_name("saved")) == task


def test_the_name_of_a_task_and_of_its_folder_may_be_in_any_script(folder: Path) -> None:
    home = folder / "données 数据"
    home.mkdir()
    write(home / "instructions.json", {"情感": MOOD})
    for split in ("train", "test"):
        write(home / "情感" / f"{split}.json", rows_of(ROWS["mood", split]))
    task = load(home, "情感")
    assert (task.name, task.train) == ("情感", load(folder).train)


def test_the_same_rows_in_another_folder_are_the_same_task(folder: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert load(moved) == load(folder)  # so what was computed from them elsewhere is found in the cache


def test_fault_03_files_rewritten_in_place_are_read_anew(folder: Path) -> None:
    load(folder)
    write(
        folder / "instructions.json",
        {"mood": MOOD | {"instruction": "Another text", "labels": ["bad", "good", "new"]}},
    )
    write(folder / "mood/train.json", rows_of([("another row", "new")]))
    task = load(folder)
    assert (task.instruction, task.labels) == ("Another text", ["bad", "good", "new"])
    assert task.train == [Example("another row", "new")]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Is the mood good or bad?", "en"),
        ("判断以下文本的立场。", "zh"),
        ("选择一项：A.支持，B.反对，C.中立。输出A，B或者C。", "zh"),
        ("Translate 文本 into English", "en"),
        ("文本 ab", "en"),  # half of the letters are not more than half
        ("文本 a", "zh"),
        ("「豈更」", "zh"),
        ("これはペンです", "en"),
        ("1 + 1 = ?", "en"),
        ("", "en"),
    ],
)
def test_a_text_is_chinese_where_more_than_half_of_its_letters_are(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("about", "language"),
    [
        ({"instruction": "判断文本的立场。", "suffix": "Answer:"}, "zh"),
        ({"instruction": "Judge the text.", "suffix": "直接回答。"}, "en"),
        ({"instruction": "", "suffix": "直接回答。"}, "zh"),
        ({"instruction": " \n", "suffix": "直接回答。"}, "zh"),
        ({"instruction": "Judge the text.", "language": "zh"}, "zh"),
        ({"instruction": "判断文本的立场。", "language": "en"}, "en"),
    ],
)
def test_the_language_is_the_one_that_is_said_or_else_the_instructions(
    folder: Path, about: dict[str, str], language: str
) -> None:
    write(folder / "instructions.json", {"mood": MOOD | about})
    assert load(folder).language == language


def test_labels_may_have_outer_white_space(folder: Path) -> None:
    expected = load(folder)
    write(folder / "instructions.json", {"mood": MOOD | {"labels": [" good", "bad\n"]}})
    assert load(folder) == expected


def test_missing_instructions_are_named_with_their_setting(folder: Path) -> None:
    (folder / "instructions.json").unlink()
    assert refused(folder).startswith(f"sequence.path: {folder} holds no instructions.json")
    assert "sequence.path" in refused(folder / "absent")


@pytest.mark.parametrize(
    "content", [{}, {"free": FREE}, {"mood": None}, {"mood": "text"}, {"mood": []}, [MOOD], "mood", None, 3]
)
def test_a_task_without_an_entry_is_named(folder: Path, content: Any) -> None:
    write(folder / "instructions.json", content)
    assert refused(folder).startswith(f"{folder / 'instructions.json'} has no entry 'mood'")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(field, value) for field in ("instruction", "suffix") for value in (None, 3, ["a text"], {})],
        *[
            ("labels", value)
            for value in (None, "good", {"good": 1}, ["good", ""], ["good", " \n"], ["good", 1], [["good"]])
        ],
        *[("language", value) for value in (None, "de", "", "EN", 3, ["en"])],
    ],
)
def test_a_malformed_field_is_named_with_file_task_and_value(folder: Path, field: str, value: Any) -> None:
    write(folder / "instructions.json", {"free": FREE, "mood": MOOD | {field: value}})
    message = refused(folder)
    assert message.startswith(f"{folder / 'instructions.json'}, mood: '{field}' must be ")
    assert message.endswith(f"found {value!r}")
    assert load(folder, "free").name == "free"


@pytest.mark.parametrize("field", ["instruction", "suffix", "labels"])
def test_a_missing_field_is_named(folder: Path, field: str) -> None:
    write(folder / "instructions.json", {"mood": {key: value for key, value in MOOD.items() if key != field}})
    assert refused(folder).startswith(f"{folder / 'instructions.json'}, mood: '{field}' must be ")


@pytest.fixture(params=["train", "test"])
def split(folder: Path, request: pytest.FixtureRequest) -> Path:
    """Each split of `mood`."""
    return folder / "mood" / f"{request.param}.json"


@pytest.mark.parametrize("content", [[], {}, {"sentence": "a day", "label": "good"}, "a day", None])
def test_a_split_that_is_not_a_list_of_rows_is_named(folder: Path, split: Path, content: Any) -> None:
    write(split, content)
    assert refused(folder) == f"{split}: expected a list of rows that is not empty"


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"sentence": "a day"}, "expected an object with 'sentence' and 'label'"),
        ({"label": "good"}, "expected an object with 'sentence' and 'label'"),
        ("a day", "expected an object with 'sentence' and 'label'"),
        (None, "expected an object with 'sentence' and 'label'"),
        (["a day", "good"], "expected an object with 'sentence' and 'label'"),
        ({"sentence": "", "label": "good"}, "'sentence' must be a text that is not empty, found ''"),
        ({"sentence": " \n\t\u3000", "label": "good"}, "'sentence' must be a text that is not empty, found "),
        ({"sentence": 3, "label": "good"}, "'sentence' must be a text that is not empty, found 3"),
        *[
            ({"sentence": "a day", "label": label}, "'label' must be a text or a list of texts, found ")
            for label in (None, 3, True, {}, {"good": 1}, [], [3], ["good", None], [["good"]])
        ],
        ({"sentence": "a day", "label": " "}, "label ' ' is none of good, bad"),
        ({"sentence": "a day", "label": ""}, "label '' is none of good, bad"),
        ({"sentence": "a day", "label": ["good", "no"]}, "label 'no' is none of good, bad"),
        ({"sentence": "a day", "label": "Good"}, "label 'Good' is none of good, bad"),
        ({"sentence": "a day", "label": "goodbad"}, "label 'goodbad' is none of good, bad"),
    ],
)
def test_a_bad_row_is_named_by_its_number(folder: Path, split: Path, row: Any, fault: str) -> None:
    write(split, [*rows_of([("a day", "good"), ("another", "bad")]), row])
    assert refused(folder).startswith(f"{split}, row 3: {fault}")


@pytest.mark.parametrize("content", [b"", b"[", b'[{"sentence": "a", "label": "good"},]', b'["a\tb"]'])
def test_a_file_that_is_not_json_is_named(folder: Path, split: Path, content: bytes) -> None:
    split.write_bytes(content)
    assert refused(folder).startswith(f"{split} is not valid JSON: ")
    (folder / "instructions.json").write_bytes(content)
    assert refused(folder).startswith(f"{folder / 'instructions.json'} is not valid JSON: ")


@pytest.mark.parametrize("content", [b"\xff\xfe[]", b'["caf\xe9"]'])
def test_a_file_of_another_encoding_is_named(folder: Path, split: Path, content: bytes) -> None:
    split.write_bytes(content)
    assert refused(folder).startswith(f"{split} is not UTF-8 text ")


def test_a_byte_order_mark_is_no_part_of_the_content(folder: Path, split: Path) -> None:
    expected = next(iter(load_folder_tasks(["mood"], str(folder), ALL)))
    split.write_bytes(b"\xef\xbb\xbf" + split.read_bytes())
    found = next(iter(load_folder_tasks(["mood"], str(folder), ALL)))
    assert (found.train, found.test) == (expected.train, expected.test)


def test_a_missing_split_is_named(folder: Path, split: Path) -> None:
    split.unlink()
    assert refused(folder).startswith(f"{split} is missing")


def test_nothing_is_read_before_it_is_asked_for(folder: Path) -> None:
    (folder / "free/train.json").unlink()
    tasks = load_folder_tasks(["mood", "free"], str(folder), ALL)
    assert next(tasks).name == "mood"
    with pytest.raises(DataError, match=r"free/train\.json is missing"):
        next(tasks)


@pytest.mark.parametrize("label", ["", " \n", ["", "none"]])
def test_an_empty_answer_is_an_answer_where_answers_are_free(folder: Path, label: str | list[str]) -> None:
    write(folder / "free/train.json", rows_of([("1, 2", label), ("a, 1", "a")]))
    task = load(folder, "free")
    assert task.train[0].row()["label"] == label
    assert task.empty_labels() == 1


def test_one_right_answer_in_a_list_is_that_answer(folder: Path) -> None:
    write(folder / "mood/train.json", rows_of([("a day", ["good"]), ("another", ["bad ", "good"])]))
    assert load(folder).train == [Example("a day", "good"), Example("another", "bad ", ("good",))]


@pytest.mark.parametrize("half", ["a \ud83d", ["a", "\udc00"]])
def test_half_of_a_surrogate_pair_in_an_answer_is_refused_by_row(folder: Path, half: str | list[str]) -> None:
    write(folder / "free/test.json", rows_of([("1", "1"), ("2", half)]))
    assert refused(folder, "free").startswith(f"{folder / 'free/test.json'}, row 2: 'label' holds half")


def test_half_of_a_surrogate_pair_is_refused_by_row(folder: Path, split: Path) -> None:
    write(split, rows_of([("a day", "good"), ("a \ud83d day", "good")]))
    assert refused(folder).startswith(f"{split}, row 2: 'sentence'")
