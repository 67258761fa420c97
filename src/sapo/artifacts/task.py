"""A task as the pipeline keeps it: data/tasks/TASK/{task.json,train.jsonl,test.jsonl}."""

import re
from dataclasses import dataclass
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
    """One row: the text a model reads and the answer it should give, outer white space as published.

    label: the answer to train; empty where it is right to say nothing. others: answers that are as right.
    """

    sentence: str
    label: str
    others: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """All right answers, the one to train first."""
        return (self.label, *self.others)

    def row(self) -> dict[str, JsonValue]:
        """As in the files of a folder of tasks: `label` is a list only where there are several."""
        return {"sentence": self.sentence, "label": [*self.references] if self.others else self.label}


@dataclass(frozen=True)
class Task:
    """What a task asks (instruction, answer-format suffix, permitted labels) and its rows.

    `labels` (without outer white space) is empty where the answer is free text. `max_new_tokens`, where it
    is not null, bounds an answer (evaluate.max_new_tokens bounds all). `source`: where the rows come from.
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
        """How many training rows have a text that is tested too, but for outer white space."""
        tested = {example.sentence.strip() for example in self.test}
        return sum(example.sentence.strip() in tested for example in self.train)

    def empty_labels(self) -> int:
        """How many rows of both splits are to be answered with nothing."""
        return sum(not example.label.strip() for example in [*self.train, *self.test])


class Split(Part):
    rows: int
    sha256: str


class About(Artifact):
    """task.json: all of a Task but its rows; of these, how many there are and the sha256 of their files."""

    FORMAT: ClassVar[int] = 2  # 1: a row's label was one text that is not empty
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


def check_example(
    row: Any, labels: list[str], where: str, keys: tuple[str, str] = ("sentence", "label")
) -> Example:
    """A row as an Example, its texts unchanged; `keys` name the text and the right answer or answers.

    An answer must be one of `labels`, but for outer white space, where there are any. Raises DataError naming
    `where` for an unusable row.
    """
    if not isinstance(row, dict) or not {*keys} <= row.keys():
        raise DataError(f"{where}: expected an object with {keys[0]!r} and {keys[1]!r}")
    sentence, label = (row[key] for key in keys)
    if not isinstance(sentence, str) or not sentence.strip():
        raise DataError(f"{where}: {keys[0]!r} must be a text that is not empty, found {sentence!r:.80}")
    references = label if isinstance(label, list) else [label]
    if not references or not all(isinstance(reference, str) for reference in references):
        raise DataError(f"{where}: {keys[1]!r} must be a text or a list of texts, found {label!r:.80}")
    for key, text in ((keys[0], sentence), *((keys[1], reference) for reference in references)):
        if LONE_SURROGATE.search(text):
            raise DataError(f"{where}: {key!r} holds half of a character (a lone surrogate): {text!r:.80}")
    for reference in references:
        if labels and reference.strip() not in labels:
            raise DataError(f"{where}: label {reference!r:.80} is none of {', '.join(labels)}")
        if len(reference) > LONGEST_LABEL:
            raise DataError(
                f"{where}: {keys[1]!r} has {len(reference)} characters, "
                f"at most {LONGEST_LABEL} can be used: shorten it"
            )
    return Example(sentence, references[0], tuple(references[1:]))


def save_task(folder: Path, task: Task) -> None:
    """Write a task's rows and, last, its task.json with counts and hashes into `folder`."""
    splits: dict[SplitName, Split] = {}
    rows: dict[SplitName, list[Example]] = {"train": task.train, "test": task.test}
    for split, examples in rows.items():
        path = folder / f"{split}.jsonl"
        write_jsonl(path, (example.row() for example in examples))
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
