"""Task files as Super-NaturalInstructions publishes them: one file a task, several right answers."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.artifacts.task import Example, Task, load_task, save_task
from sapo.data.folder import load_folder_tasks
from sapo.runtime.errors import DataError
from sapo.runtime.files import git_blob_id

NAME = "task900_colours"
ROWS = [
    {"id": f"{NAME}-{n}", "input": f"fruit {n}", "output": [f"red {n}", f"dark red {n}"]} for n in range(12)
]
PUBLISHED: dict[str, Any] = {
    "Contributors": ["someone"],
    "Categories": ["Question Answering"],
    "Definition": ["Name the colour of the fruit. ", "Another wording."],
    "Input_language": ["English"],
    "Output_language": ["English"],
    "Positive Examples": [{"input": "a lemon", "output": "yellow", "explanation": "lemons are"}],
    "Instances": ROWS,
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps(PUBLISHED | changes), encoding="utf-8")
    return path


def load(folder: Path, rows: tuple[int, int] = (100, 3), seed: int = 1) -> Task:
    [task] = load_folder_tasks([NAME], str(folder), rows, seed)
    return task


def example(number: int) -> Example:
    return Example(f"fruit {number}", f"red {number}", (f"dark red {number}",))


def test_the_first_rows_are_tested_and_all_others_are_for_training(tmp_path: Path) -> None:
    path = write(tmp_path)
    task = load(tmp_path)
    assert (task.instruction, task.suffix, task.labels) == ("Name the colour of the fruit. ", "", [])
    assert task.language == "en"
    assert task.test == [example(n) for n in range(3)]
    assert sorted(task.train, key=lambda row: int(row.sentence[6:])) == [example(n) for n in range(3, 12)]
    assert task.source == {"git_blobs": {path.name: git_blob_id(path)}, "train_rows_also_in_test": 0}


def test_the_seed_draws_the_training_rows_and_their_number_does_not_change_which_come_first(
    tmp_path: Path,
) -> None:
    write(tmp_path)
    whole = load(tmp_path).train
    assert load(tmp_path, (4, 3)).train == whole[:4]
    assert load(tmp_path, seed=2).train != whole
    assert load(tmp_path, seed=2).test == load(tmp_path).test


@settings(deadline=None)
@given(
    texts=st.lists(st.sampled_from(["a", "b", " a", "b\n", "c", "d"]), min_size=2), tested=st.integers(1, 8)
)
def test_no_text_is_trained_and_tested(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], tested: int
) -> None:
    folder = tmp_path_factory.mktemp("tasks")
    write(folder, Instances=[{"id": "x", "input": text, "output": ["y"]} for text in texts])
    if {text.strip() for text in texts} == {text.strip() for text in texts[:tested]}:
        with pytest.raises(
            DataError, match=rf"data\.test_rows = {tested} leaves none of its {len(texts)} inst"
        ):
            load(folder, (100, tested))
    else:
        task = load(folder, (100, tested))
        assert [row.sentence for row in task.test] == texts[:tested]
        assert not {row.sentence.strip() for row in task.train} & {row.sentence.strip() for row in task.test}


def test_all_right_answers_survive_the_pipeline_s_own_files(tmp_path: Path) -> None:
    rows = [*ROWS[:3], {"input": "no fruit", "output": ["", " none "]}]
    write(tmp_path, Instances=rows, Definition="One text.")
    task = load(tmp_path, (100, 3))
    assert task.train == [Example("no fruit", "", (" none ",))]
    assert (task.instruction, task.empty_labels()) == ("One text.", 1)
    save_task(tmp_path / "saved", task)
    assert load_task(tmp_path / "saved") == task


def test_a_folder_may_hold_tasks_of_both_layouts_but_not_one_task_twice(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "mine").mkdir()
    about = {"mine": {"instruction": "Say it.", "suffix": "", "labels": []}}
    (tmp_path / "instructions.json").write_text(json.dumps(about))
    for split in ("train", "test"):
        rows = [{"sentence": f"a {split} text", "label": ["x", "y"]}]
        (tmp_path / f"mine/{split}.json").write_text(json.dumps(rows))
    tasks = [*load_folder_tasks(["mine", NAME], str(tmp_path), (9, 3))]
    assert [len(task.test[0].references) for task in tasks] == [2, 2]
    (tmp_path / NAME).mkdir()
    with pytest.raises(DataError, match=f"{NAME} is there twice"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"Definition": []}, "'Definition' must be a text or a list of texts, found []"),
        ({"Definition": [3]}, "'Definition' must be a text or a list of texts, found [3]"),
        ({"Definition": None}, "'Definition' must be a text or a list of texts, found None"),
        ({"Definition": ["half \ud800"]}, "'Definition' must be a text"),
        ({"Instances": []}, "'Instances' must be a list of rows that is not empty"),
        ({"Instances": {}}, "'Instances' must be a list of rows that is not empty"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{path}: {fault}")


@pytest.mark.parametrize("content", ["[]", "{}", '{"Definition": "x"}', '{"Instances": [{}]}', "null"])
def test_a_file_that_is_no_task_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path).write_text(content)
    with pytest.raises(DataError, match="expected an object with 'Definition' and 'Instances'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"input": "x"}, "expected an object with 'input' and 'output'"),
        ("x", "expected an object with 'input' and 'output'"),
        ({"input": " ", "output": ["y"]}, "'input' must be a text that is not empty"),
        ({"input": "x", "output": []}, "'output' must be a text or a list of texts, found []"),
        ({"input": "x", "output": [1]}, "'output' must be a text or a list of texts, found [1]"),
        ({"input": "x", "output": ["y", "\ud800"]}, "'output' holds half of a character"),
        ({"input": "x", "output": ["y", "z" * 100_001]}, "'output' has 100001 characters"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_number(tmp_path: Path, row: Any, fault: str) -> None:
    path = write(tmp_path, Instances=[*ROWS[:2], row])
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{path}, instance 3: {fault}")
