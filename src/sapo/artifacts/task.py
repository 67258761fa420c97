"""A task as the pipeline keeps it: data/tasks/TASK/{task.json,train.jsonl,test.jsonl}."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import JsonValue, field_validator

from sapo.artifacts.schema import Artifact, Part, as_artifact
from sapo.runtime.errors import ArtifactError, DataError
from sapo.runtime.files import read_jsonl, sha256_file
from sapo.runtime.outputs import write_json, write_jsonl

TASKS = Path("data/tasks")
LANGUAGES = ("en", "zh")
LONGEST_LABEL = 100_000  # characters: answers are never cut, and a longer one would exhaust the memory
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell one, no encoding can store it

SplitName = Literal["train", "test"]


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
    source: dict[str, JsonValue]
    train: list[Example]
    test: list[Example]

    def train_rows_also_in_test(self) -> int:
        """How many training rows have a text that is tested too."""
        tested = {example.sentence for example in self.test}
        return sum(example.sentence in tested for example in self.train)


class Split(Part):
    rows: int
    sha256: str


class About(Artifact):
    """task.json: all of a Task but its rows; of these, how many there are and the sha256 of their files."""

    STAGE: ClassVar[str | None] = "prepare"

    name: str
    instruction: str
    suffix: str
    labels: list[str]
    language: Literal["en", "zh"]
    max_new_tokens: int | None
    source: dict[str, JsonValue]
    splits: dict[SplitName, Split]

    @field_validator("splits")
    @classmethod
    def _both(cls, splits: dict[SplitName, Split]) -> dict[SplitName, Split]:
        if splits.keys() != {"train", "test"}:
            raise ValueError(f"train and test are needed, found {', '.join(splits) or 'none'}")
        return splits

    @field_validator("instruction", "suffix", "labels")
    @classmethod
    def _whole(cls, texts: Any) -> Any:
        if LONE_SURROGATE.search("".join(texts)):
            raise ValueError("a text holds half of a character (a lone surrogate)")
        return texts


def about_path(task: str | Path) -> Path:
    return TASKS / task / "task.json"


def split_path(task: str | Path, split: SplitName) -> Path:
    return TASKS / task / f"{split}.jsonl"


def read_about(task: str | Path) -> About:
    """task.json of a task of data/tasks. Raises ArtifactError for anything else."""
    return About.read(about_path(task))


def check_example(row: Any, labels: list[str], where: str) -> Example:
    """A row as an Example, outer white space removed. Raises DataError naming `where` for an unusable one."""
    if not isinstance(row, dict) or not {"sentence", "label"} <= row.keys():
        raise DataError(f"{where}: expected an object with 'sentence' and 'label'")
    for key in ("sentence", "label"):
        if not isinstance(row[key], str) or not row[key].strip():
            raise DataError(f"{where}: '{key}' must be a text that is not empty, found {row[key]!r:.80}")
        if LONE_SURROGATE.search(row[key]):
            raise DataError(
                f"{where}: '{key}' holds half of a character (a lone surrogate): {row[key]!r:.80}"
            )
    if labels and row["label"].strip() not in labels:
        raise DataError(f"{where}: label {row['label']!r:.80} is none of {', '.join(labels)}")
    if len(row["label"]) > LONGEST_LABEL:
        raise DataError(
            f"{where}: 'label' has {len(row['label'])} characters, "
            f"at most {LONGEST_LABEL} can be used: shorten it"
        )
    return Example(row["sentence"].strip(), row["label"].strip())


def save_task(folder: Path, task: Task) -> None:
    """Write a task's rows and, last, its task.json with counts and hashes into `folder`."""
    splits: dict[SplitName, Split] = {}
    rows: dict[SplitName, list[Example]] = {"train": task.train, "test": task.test}
    for split, examples in rows.items():
        path = folder / f"{split}.jsonl"
        write_jsonl(path, map(asdict, examples))
        splits[split] = Split(rows=len(examples), sha256=sha256_file(path))
    about = {key: value for key, value in vars(task).items() if key not in splits}
    write_json(folder / "task.json", About(**about, splits=splits).content())


def load_task(task: str | Path) -> Task:
    """Read what `save_task` wrote to data/tasks/TASK, checking every row and its hash (ArtifactError)."""
    about = read_about(task)
    rows: dict[SplitName, list[Example]] = {}
    for split, recorded in about.splits.items():
        path = split_path(task, split)
        with as_artifact(About.STAGE):
            rows[split] = [
                check_example(row, about.labels, f"{path}, line {n}")
                for n, row in enumerate(read_jsonl(path), 1)
            ]
        if recorded != Split(rows=len(rows[split]), sha256=sha256_file(path)):
            raise ArtifactError(f"{path} is not the file that task.json records", About.STAGE)
    return Task(**about.model_dump(exclude={"format", "splits"}), train=rows["train"], test=rows["test"])
