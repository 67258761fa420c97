"""A task as the pipeline keeps it: data/tasks/TASK/{task.json,train.jsonl,test.jsonl}."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from sapo.files import DataError, read_jsonl, read_object, sha256_file, write_json, write_jsonl

LANGUAGES = ("en", "zh")
LONGEST_LABEL = 100_000  # characters: answers are never cut, and a longer one would exhaust the memory
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell one, no encoding can store it


@dataclass(frozen=True)
class Example:
    """One row: the text a model reads and the answer it should give."""

    sentence: str
    label: str


@dataclass(frozen=True)
class Task:
    """What a task asks (instruction, answer-format suffix, permitted labels) and its rows.

    `labels` is empty where the answer is free text. `max_new_tokens`, where it is not null, bounds an answer
    (evaluate.max_new_tokens bounds all). `source` records where the rows come from.
    """

    name: str
    instruction: str
    suffix: str
    labels: list[str]
    language: str
    max_new_tokens: int | None
    source: dict[str, Any]
    train: list[Example]
    test: list[Example]


# What task.json says of a task, beside its splits
ABOUT: dict[str, type | UnionType] = {
    "name": str,
    "instruction": str,
    "suffix": str,
    "labels": list,
    "language": str,
    "max_new_tokens": int | None,
    "source": dict,
}


def check_example(row: Any, labels: list[str], where: str) -> Example:
    """A row as an Example, outer white space removed. Raises DataError naming `where` for an unusable one."""
    if not isinstance(row, dict) or not {"sentence", "label"} <= row.keys():
        raise DataError(f"{where}: expected an object with 'sentence' and 'label'")
    for key in ("sentence", "label"):
        if not isinstance(row[key], str) or not row[key].strip():
            raise DataError(f"{where}: '{key}' must be a text that is not empty, found {row[key]!r:.80}")
        if LONE_SURROGATE.search(row[key]):
            raise DataError(f"{where}: '{key}' holds half of a character (a lone surrogate): {row[key]!r:.80}")
    if labels and row["label"].strip() not in labels:
        raise DataError(f"{where}: label {row['label']!r:.80} is none of {', '.join(labels)}")
    if len(row["label"]) > LONGEST_LABEL:
        raise DataError(f"{where}: 'label' has {len(row['label'])} characters, at most {LONGEST_LABEL} can be used: shorten it")
    return Example(row["sentence"].strip(), row["label"].strip())


def save_task(folder: str | Path, task: Task) -> None:
    """Write a task's rows and, last, its task.json with counts and hashes."""
    folder = Path(folder)
    splits = {}
    for split in ("train", "test"):
        path = folder / f"{split}.jsonl"
        examples = getattr(task, split)
        write_jsonl(path, map(asdict, examples))
        splits[split] = {"rows": len(examples), "sha256": sha256_file(path)}
    about = {key: getattr(task, key) for key in ABOUT}
    write_json(folder / "task.json", about | {"splits": splits})


def load_task(folder: str | Path) -> Task:
    """Read what `save_task` wrote, checking every row and its hash (DataError)."""
    folder = Path(folder)
    path = folder / "task.json"
    about = read_object(path, **ABOUT, splits=dict)
    splits = about.pop("splits")
    texts = [about["instruction"], about["suffix"], *about["labels"]]
    if about.keys() != ABOUT.keys() or splits.keys() != {"train", "test"} or about["language"] not in LANGUAGES:
        raise DataError(f"{path} has other keys, splits or language than `prepare` writes: run `dvc repro -f prepare`")
    if not all(isinstance(text, str) and not LONE_SURROGATE.search(text) for text in texts):
        raise DataError(f"{path}: instruction, suffix and labels must be whole texts: run `dvc repro -f prepare`")
    rows: dict[str, Any] = {}
    for split, recorded in splits.items():
        path = folder / f"{split}.jsonl"
        rows[split] = [check_example(row, about["labels"], f"{path}, line {n}") for n, row in enumerate(read_jsonl(path), 1)]
        if recorded != {"rows": len(rows[split]), "sha256": sha256_file(path)}:
            raise DataError(f"{path} is not the file that task.json records: run `dvc repro -f prepare`")
    return Task(**about, **rows)
