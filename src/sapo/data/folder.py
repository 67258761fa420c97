"""Tasks in the layout of the SuperNI and TRACE files: TASK/{train,test}.json and one instructions.json.

A split is a list of {"sentence", "label"}, the label a text or a list of right answers; instructions.json
maps each task to its instruction, suffix and labels. A folder of one's own may also hold TASK.json, as
Super-NaturalInstructions publishes it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sapo.artifacts.task import LANGUAGES, LONE_SURROGATE, Example, Task, check_example
from sapo.data.natural_instructions import read_natural_instructions
from sapo.runtime.errors import DataError
from sapo.runtime.files import git_blob_id, read_json

CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


def language_of(text: str) -> str:
    """`zh` where more than half of the text's letters are Chinese characters, else `en`."""
    letters = sum(character.isalpha() for character in text)
    return "zh" if 2 * len(CJK.findall(text)) > letters else "en"


def read_rows(path: Path, where: str, labels: list[str]) -> list[Example]:
    """Every row of a split, checked. Raises DataError that names `where` and the row."""
    if not path.is_file():
        raise DataError(
            f"{where} is {'a folder, not a file' if path.is_dir() else 'missing'}: "
            "every task needs its rows there"
        )
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise DataError(f"{where}: expected a list of rows that is not empty")
    return [
        check_example(row, labels, f"{where}, row {number}") for number, row in enumerate(content, start=1)
    ]


def check_about(instructions: Any, key: str, where: str) -> dict[str, Any]:
    """A task's entry of instructions.json, its labels without outer white space: rows are compared so.

    Raises DataError that names `where` when it is missing or malformed.
    """
    about = instructions.get(key) if isinstance(instructions, dict) else None
    if not isinstance(about, dict):
        raise DataError(
            f"{where} has no entry {key!r}: an object with its 'instruction', 'suffix' and 'labels' is needed"
        )
    for field in ("instruction", "suffix"):
        if not isinstance(about.get(field), str):
            raise DataError(f"{where}, {key}: '{field}' must be a text, found {about.get(field)!r:.80}")
    labels = about.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise DataError(
            f"{where}, {key}: 'labels' must be a list of texts (empty for free answers), found {labels!r:.80}"
        )
    if about.get("language", "en") not in LANGUAGES:
        raise DataError(f"{where}, {key}: 'language' must be 'en' or 'zh', found {about['language']!r:.80}")
    if LONE_SURROGATE.search("".join([about["instruction"], about["suffix"], *labels])):
        raise DataError(f"{where}, {key}: a text holds half of a character (a lone surrogate)")
    return about | {"labels": [label.strip() for label in labels]}


def make_task(
    name: str,
    about: dict[str, Any],
    train: list[Example],
    test: list[Example],
    source: dict[str, Any],
    rows: tuple[int, int],
) -> Task:
    """The task with its first `rows` training and test rows, in the files' order.

    Published splits are taken as they are; `source.train_rows_also_in_test` counts the training rows whose
    text is tested too.
    """
    train, test = train[: rows[0]], test[: rows[1]]
    task = Task(
        name=name,
        instruction=about["instruction"],
        suffix=about["suffix"],
        labels=about["labels"],
        language=about.get("language") or language_of(about["instruction"].strip() or about["suffix"]),
        max_new_tokens=None,
        source=source,
        train=train,
        test=test,
    )
    return replace(task, source=source | {"train_rows_also_in_test": task.train_rows_also_in_test()})


def load_folder_tasks(
    names: Sequence[str], folder: str, rows: tuple[int, int], seed: int = 0
) -> Iterator[Task]:
    """Tasks of the user's folder, each in this layout or as one TASK.json.

    seed: draws the training rows of a TASK.json. Raises DataError for a missing or malformed file or row.
    """
    instructions = Path(folder) / "instructions.json"
    for name in names:
        if (raw := instructions.with_name(f"{name}.json")).is_file():
            if raw.with_suffix("").exists():
                raise DataError(f"{name} is there twice, as {raw} and as {raw.with_suffix('')}: remove one")
            about, train, test = read_natural_instructions(raw, rows, seed)
            yield make_task(name, about, train, test, {"git_blobs": {raw.name: git_blob_id(raw)}}, rows)
            continue
        if not instructions.is_file():
            raise DataError(
                f"sequence.path: {folder} holds no instructions.json and no {name}.json: "
                "give the folder of your tasks"
            )
        about = check_about(read_json(instructions), name, str(instructions))
        used = {split: instructions.parent / name / f"{split}.json" for split in ("train", "test")}
        train, test = (read_rows(path, str(path), about["labels"]) for path in used.values())
        blobs = {f"{name}/{path.name}": git_blob_id(path) for path in used.values()}
        yield make_task(name, about, train, test, {"git_blobs": blobs}, rows)
