"""Tasks of any data set whose file, columns or rows cannot be used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from broken import DROP, Case, Change, both, encoded, gone, params, put

TABLE = "own/reviews.csv"
ROWS = "text,stars\n" + "".join(f"a text {n},{5 if n % 2 else 1}\n" for n in range(20))
TASK: dict[str, Any] = {
    "files": "reviews.csv",
    "sentence": "{text}",
    "label": "stars",
    "labels": {1: "bad", 5: "good"},
    "instruction": "Say whether it is good.",
}
HUB: dict[str, Any] = {"files": DROP, "dataset": "someone/data", "revision": "0" * 40}


def own(rows: str | bytes = ROWS, name: str = TABLE, **changes: Any) -> Change:
    """A sequence of one task with these rows, and its file with these changes."""
    sequence = {"name": "own", "source": "datasets", "path": "own", "last": "reviews"}
    task = {key: value for key, value in (TASK | changes).items() if value is not DROP}
    return both(
        params(sequence=sequence | {"tasks": {"reviews": {"after": "base"}}}),
        put("own/reviews.yaml", yaml.safe_dump(task, sort_keys=False)),
        put(name, rows),
    )


# fmt: off
FILES = [
    Case("no task file", "prepare", both(own(), gone("own/reviews.yaml")),
         r"own/reviews\.yaml is missing: source 'datasets' needs such a file"),
    Case("a task file that is a list", "prepare", both(own(), put("own/reviews.yaml", "[]")),
         r"own/reviews\.yaml: Input should be a valid dictionary.*found \[\]"),
    Case("a task file that is no YAML", "prepare", both(own(), put("own/reviews.yaml", "a: b: c")),
         r"own/reviews\.yaml is not valid YAML: line 1"),
    Case("a key that is unknown", "prepare", own(colums="x"),
         r"own/reviews\.yaml: colums: Extra inputs are not permitted"),
    Case("no label column", "prepare", own(label=DROP), r"own/reviews\.yaml: label: Field required"),
    Case("an instruction that is a number", "prepare", own(instruction=3),
         r"own/reviews\.yaml: instruction: 3 is not a text in YAML: put it in quotes"),
    Case("half a character in an instruction", "prepare",
         both(own(), put("own/reviews.yaml", 'files: reviews.csv\nsentence: "{text}"\nlabel: stars\n'
                                             'instruction: "Do \\ud800"\n')),
         r"own/reviews\.yaml: instruction: a text holds half of a character"),
    Case("labels of numbers", "prepare", own(labels=[1, 5]),
         r"own/reviews\.yaml: labels\.0: 1 is not a text"),
    Case("a label that is blank", "prepare", own(labels={1: " ", 5: "good"}),
         r"own/reviews\.yaml: labels\.1: it must be a text that is not empty"),
    Case("labels that differ by case alone", "prepare", own(labels={1: "good", 5: "Good"}),
         r"reviews: exact match cannot tell the labels 'good' and 'Good' apart"),
    Case("an unknown language", "prepare", own(language="fr"),
         r"own/reviews\.yaml: language: Input should be 'en' or 'zh', found 'fr'"),
    Case("an empty pool", "prepare", own(pool=0), r"own/reviews\.yaml: pool: .*greater than or equal to 1"),
    Case("files and a data set", "prepare", own(dataset="someone/data"),
         r"own/reviews\.yaml: either 'dataset' .* or 'files' .* is needed"),
    Case("neither files nor a data set", "prepare", own(files=DROP), r"either 'dataset' .* or 'files'"),
    Case("files with a configuration", "prepare", own(configuration="en"),
         r"'configuration' and 'splits' belong to 'dataset', not to 'files'"),
    Case("no training rows", "prepare", own(files={"test": "reviews.csv"}),
         r"own/reviews\.yaml: files: 'train' is missing"),
    Case("the same rows twice", "prepare", own(files={"train": "reviews.csv", "test": "reviews.csv"}),
         r"files: 'test' must be another than 'train'"),
    Case("a file in the folder above", "prepare", own(files="../own/reviews.csv"),
         r"files: '\.\./own/reviews\.csv' must be a file in the folder of this one, which DVC watches"),
    Case("a file at the root", "prepare", own(files="/etc/reviews.csv"), r"must be a file in the folder"),
    Case("a file in an archive", "prepare", own(files="zip://reviews.csv::a.csv"),
         r"must be a file in the fo"),
    Case("an address", "prepare", own(files="https://example.org/reviews.csv"),
         r"must be a file in the fold"),
    Case("a pickle", "prepare", own(files="reviews.pkl"),
         r"'reviews\.pkl' is none of \.csv, \.json, \.jsonl"),
    Case("a file that is missing", "prepare", own(files="other.csv"), r"own/other\.csv is missing"),
    Case("a pattern", "prepare", own(files="*.csv"), r"own/\*\.csv is missing"),
    Case("a folder", "prepare", own(rows="", name="own/x.csv/a", files="x.csv"), r"own/x\.csv is a folder"),
]
TEMPLATES = [
    Case("a template without a column", "prepare", own(sentence="text"),
         r"own/reviews\.yaml: sentence: it names no column: write \{column\}"),
    Case("a brace that is not closed", "prepare", own(sentence="{text"),
         r"sentence: .*expected '\}'.*; a brace of the text itself is written twice"),
    Case("a brace that is not opened", "prepare", own(sentence="{text} }"), r"sentence: Single '\}'"),
    Case("a column without a name", "prepare", own(sentence="{text} {}"),
         r"sentence: \{\} can hold the name of a column alone"),
    Case("a format", "prepare", own(sentence="{text:>99999999999}"),
         r"\{text\} can hold the name of a column"),
    Case("a conversion", "prepare", own(sentence="{text!r}"),
         r"\{text\} can hold the name of a column alone"),
    Case("an attribute", "prepare", own(sentence="{text.__class__.__mro__}"),
         r"reviews, train, row 1: there is no column 'text\.__class__\.__mro__': text, stars"),
    Case("an index", "prepare", own(sentence="{text[0]}"), r"there is no column 'text\[0\]': text, stars"),
    Case("a column that is missing", "prepare", own(sentence="{title}"),
         r"reviews, train, row 1: there is no column 'title': text, stars"),
    Case("a label column that is missing", "prepare", own(label="score"),
         r"reviews, train, row 1: there is no column 'score': text, stars"),
    Case("another separator", "prepare", own(ROWS.replace(",", ";")),
         r"there is no column 'text': text;stars"),
]
CONTENTS = [
    Case("a table in Latin-1", "prepare", both(own(), encoded(TABLE, "latin-1")),
         r"own/reviews\.csv is not UTF-8 text \(see its byte \d+\): save it as UTF-8"),
    Case("a table in UTF-16", "prepare", both(own(), encoded(TABLE, "utf-16")),
         r"own/reviews\.csv is not UTF-8 text \(see its byte 0\): save it as UTF-8"),
    Case("a table of NUL bytes", "prepare", own(b"text,stars\n" + b"\0" * 64),
         r"reviews\.csv holds NUL bytes"),
    Case("an empty table", "prepare", own(""), r"own/reviews\.csv cannot be read: EmptyDataError"),
    Case("a table without rows", "prepare", own("text,stars\n"), r"reviews: split train is empty"),
    Case("a test table without rows", "prepare",
         both(own(files={"train": "reviews.csv", "test": "test.csv"}), put("own/test.csv", "text,stars\n")),
         r"reviews: split test is empty"),
    Case("a row with more cells", "prepare", own(f"{ROWS}a,b,c,d\n"),
         r"own/reviews\.csv cannot be read: .*Expected 2 fields in line 22, saw 4"),
    Case("a label that is empty", "prepare", own(f"{ROWS}a text,\n"),
         r"reviews, train, row 21: the column 'stars' is empty \(null\)"),
    Case("a text that is empty", "prepare", own(f"{ROWS},5\n"),
         r"reviews, train, row 21: the column 'text' is empty \(null\)"),
    Case("a text of white space", "prepare", own(f"{ROWS}  ,5\n"),
         r"row 21: 'sentence' must be a text that is"),
    Case("a label that is none", "prepare", own(f"{ROWS}a text,3\n"),
         r"reviews, train, row 21: the label 3 is not among 'labels': 1, 5"),
    Case("a label without a number", "prepare", own(labels=["bad", "good"]),
         r"reviews, train, row 2: the label 5 is not among 'labels': bad, good"),
    Case("a label beyond the pool", "prepare", own(pool=1),
         r"reviews, train: no row has the label good among the first 1: raise 'pool'"),
    Case("too few rows", "prepare", own("text,stars\na,1\n"),
         r"reviews: no rows are left for training or for"),
    Case("lines that are no JSON", "prepare", own("no\n", "own/a.jsonl", files="a.jsonl"),
         r"own/a\.jsonl cannot be read: .*JSON"),
    Case("a row that is no object", "prepare", own("[1, 2]", "own/a.json", files="a.json"),
         r"reviews, train, row 1: there is no column"),
    Case("a column of objects", "prepare",
         own('{"text": {"a": "b"}, "stars": 1}\n', "own/a.jsonl", files="a.jsonl"),
         r"row 1: the column 'text' holds no text or number, found dict"),
    Case("a pickle for a parquet", "prepare", own(b"\x80\x04\x95\x10", "own/a.parquet", files="a.parquet"),
         r"own/a\.parquet cannot be read: ArrowInvalid"),
]
FROM_HUB = [
    Case("a branch", "prepare", own(**HUB | {"revision": "main"}),
         r"own/reviews\.yaml: 'revision' must be the 40-digit commit id .*found 'main'"),
    Case("no revision", "prepare", own(**HUB | {"revision": DROP}),
         r"'revision' must be the 40-digit commit id"),
    Case("a reader's name", "prepare", own(**HUB | {"dataset": "pandas"}),
         r"dataset: it must be OWNER/NAME, as the hub .*found 'pandas'"),
    Case("a path", "prepare", own(**HUB | {"dataset": "../someone/data"}),
         r"dataset: it must be OWNER/NAME, .*found '\.\./someone/data'"),
    Case("a split of three", "prepare", own(**HUB | {"splits": {"train": "train", "dev": "dev"}}),
         r"own/reviews\.yaml: splits\.dev: Input should be 'train' or 'test'"),
    Case("a split twice", "prepare", own(**HUB | {"splits": {"train": "all", "test": "all"}}),
         r"splits: 'test' must be another than 'train'"),
    Case("a hub out of reach", "prepare", own(**HUB),
         r"cannot read the data set someone/data at 0{40}: .*Check the id, the revision and the network"),
]
# fmt: on


@pytest.mark.parametrize("case", [*FILES, *TEMPLATES, *CONTENTS, *FROM_HUB], ids=lambda case: case.id)
def test_a_data_set_that_cannot_be_used_is_named_and_changes_no_output(
    case: Case, refused: Callable[[Case], None]
) -> None:
    refused(case)


def test_no_row_is_read_before_every_task_has_been_tried(
    refused: Callable[[Case], None],
) -> None:
    """The first task's bad row is beyond its first; the second task's column is missing."""
    second = {"name": "own", "source": "datasets", "path": "own", "last": "other"}
    second |= {"tasks": {"reviews": {"after": "base"}, "other": {"after": "reviews"}}}
    change = both(
        own(f"{ROWS}a text,3\n"),
        params(sequence=second),
        lambda: put("own/other.yaml", Path("own/reviews.yaml").read_text().replace("{text}", "{no}"))(),
    )
    refused(Case("", "prepare", change, r"other, train, row 1: there is no column 'no'"))
