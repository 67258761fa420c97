"""Tasks from files of any kind: the same rows, drawn by the seed, with no text trained and tested."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from sapo.artifacts.task import Task, load_task, save_task
from sapo.data.dataset_tasks import load_dataset_tasks
from sapo.runtime.errors import DataError
from sapo.runtime.files import git_blob_id

ABOUT: dict[str, Any] = {
    "sentence": "{title}: {body}",
    "label": "stars",
    "labels": {1: "bad", 5: "good"},
    "instruction": "Say whether it is good.",
    "licence": "CC0",
}
ROWS = [
    {"title": f"title {n}", "body": body, "stars": 5 if n % 4 else 1}
    for n, body in enumerate(["NA", "None", "null", 'a "quoted", text', "two\nlines", "{x} café 文本"] * 10)
]


def write(folder: Path, rows: list[dict[str, Any]], name: str = "reviews.csv") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table, path = pd.DataFrame(rows), folder / name
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def load(folder: Path, rows: tuple[int, int] = (100, 100), seed: int = 1, **changes: Any) -> Task:
    about = {"files": "reviews.csv"} | ABOUT | changes
    (folder / "reviews.yaml").write_text(yaml.safe_dump(about, sort_keys=False), encoding="utf-8")
    [task] = load_dataset_tasks(["reviews"], folder, rows, seed)
    return task


def texts(task: Task) -> list[str]:
    return [example.sentence for example in [*task.train, *task.test]]


def test_rows_are_the_same_from_every_kind_of_file_and_survive_the_pipeline_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for kind in ("csv", "json", "jsonl", "parquet"):
        write(tmp_path, ROWS, f"reviews.{kind}")
        found.append(load(tmp_path, files=f"reviews.{kind}"))
        assert found[-1].source["git_blobs"] == {f"reviews.{kind}": git_blob_id(tmp_path / f"reviews.{kind}")}
    assert sorted(texts(found[0])) == sorted(f"{row['title']}: {row['body']}" for row in ROWS)
    assert all((one.train, one.test) == (found[0].train, found[0].test) for one in found)
    assert all(one.source["read"] == found[0].source["read"] for one in found)
    assert (found[0].labels, found[0].source["licence"]) == (["bad", "good"], "CC0")
    monkeypatch.chdir(tmp_path)
    save_task(Path("data/tasks/reviews"), found[0])
    assert load_task("reviews") == found[0]


def test_without_a_test_split_a_fifth_of_the_texts_is_tested_and_none_of_these_is_trained(
    tmp_path: Path,
) -> None:
    write(tmp_path, [*ROWS, *ROWS])
    task = load(tmp_path)
    assert (len(task.train), len(task.test)) == (48, 12)
    assert len(set(texts(task))) == len(ROWS)
    assert task.source["read"]["train"]["rows"] == 2 * len(ROWS)  # type: ignore[index, call-overload]


def test_the_seed_draws_and_the_number_of_rows_does_not_change_which_come_first(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    whole, few = load(tmp_path), load(tmp_path, (6, 4))
    assert (few.train, few.test) == (whole.train[:6], whole.test[:4])
    assert [example.label for example in few.train].count("bad") == 3  # of a quarter of all rows
    assert load(tmp_path, seed=2).train != whole.train
    assert load(tmp_path, seed=2).source == whole.source


def test_a_test_split_is_used_and_its_texts_are_taken_out_of_training(tmp_path: Path) -> None:
    write(tmp_path, ROWS[:40], "train.csv")
    write(tmp_path, ROWS[30:50], "test.csv")
    write(tmp_path, ROWS[50:], "more.csv")
    task = load(tmp_path, files={"train": ["train.csv", "more.csv"], "test": "test.csv"})
    assert (len(task.train), len(task.test)) == (40, 20)
    assert task.train_rows_also_in_test() == 0
    read = {split: one["rows"] for split, one in task.source["read"].items()}  # type: ignore[union-attr, index, call-overload]
    assert read == {"train": 50, "test": 20}


def test_what_was_read_has_a_fingerprint(tmp_path: Path) -> None:
    def digest(rows: list[dict[str, Any]]) -> Any:
        write(tmp_path, rows)
        return load(tmp_path).source["read"]

    assert digest(ROWS) == digest([row | {"unused": 1} for row in ROWS])
    assert digest(ROWS) != digest([*ROWS[:-1], ROWS[-1] | {"stars": 1}])


def test_no_more_than_the_pool_is_read(tmp_path: Path) -> None:
    write(tmp_path, [*ROWS, {"title": "t", "body": "b", "stars": 9}])
    assert load(tmp_path, pool=60).source["read"]["train"]["rows"] == 60  # type: ignore[index, call-overload]
    with pytest.raises(DataError, match="reviews, train, row 61: the label 9 is not among 'labels': 1, 5"):
        load(tmp_path, pool=61)


def test_a_label_that_no_row_has_is_accepted_where_all_rows_were_read(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    assert load(tmp_path, labels={1: "bad", 5: "good", 3: "fair"}).labels == ["bad", "good", "fair"]


@pytest.mark.parametrize("name", ["[a] *b?", ".hidden/__special__", "café {x}", "a:b#c%20d"])
def test_a_folder_of_any_name_can_be_used(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, ROWS, "[1] my reviews?.csv")
    assert len(texts(load(tmp_path / name, files="[1] my reviews?.csv"))) == len(ROWS)


def test_a_byte_order_mark_is_no_part_of_a_column_s_name(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    path = tmp_path / "reviews.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(texts(load(tmp_path))) == len(ROWS)


def test_free_answers_and_the_bound_and_language_of_a_task(tmp_path: Path) -> None:
    write(tmp_path, ROWS)
    task = load(tmp_path, label="body", labels=[], language="zh", max_new_tokens=5)
    assert {example.label for example in task.train} == {row["body"] for row in ROWS}
    assert (task.language, task.max_new_tokens, task.labels) == ("zh", 5, [])
    assert load(tmp_path, instruction="判断评论的情感。").language == "zh"
