"""The file that describes a task of any data set: where its rows are, and what a row becomes.

A folder holds one TASK.yaml a task, and the data files that these name.
"""

import math
import re
import string
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from sapo.artifacts.schema import Part
from sapo.artifacts.task import LONE_SURROGATE, Example, SplitName, check_example
from sapo.runtime.errors import DataError
from sapo.runtime.files import no_text, read_yaml

# Of a data file's name -> the reader of the library `datasets`: no pickle, no archive, no code
KINDS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
POOL = 100_000  # rows of a split that are read, at most, where a task's file does not say


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("it must be a text that is not empty")
    return text


def _hub_id(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text):
        raise ValueError(f"it must be OWNER/NAME, as the hub calls it, found {text!r:.80}")
    return text


Text = Annotated[str, AfterValidator(_not_empty)]


class DatasetTask(Part):
    """TASK.yaml. Either `dataset` (an id of the Hugging Face hub) with its `revision`, or `files`."""

    dataset: Annotated[str, AfterValidator(_hub_id)] | None = None
    revision: str | None = None  # the 40-digit commit id
    configuration: str | None = None  # of several in one data set
    # Those of the data set that the rows are from; without `test`, test rows are drawn from `train`
    splits: dict[SplitName, Text] = Field({"train": "train", "test": "test"})
    files: dict[SplitName, list[str]] = Field(default_factory=dict)  # likewise, from the folder of TASK.yaml
    pool: Annotated[int, Field(ge=1)] = POOL  # rows are drawn from so many of a split's first
    sentence: str  # a template: {column} stands for what a row has there, {{ and }} for braces
    label: str  # the column with the right answer
    # The permitted answers: for numbers 0, 1 ... in this order, or as `value: answer`; empty: free text
    labels: list[Text] | dict[int | bool | str, Text] = Field(default_factory=list)
    instruction: str
    suffix: str = ""
    language: Literal["en", "zh"] | None = None
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    licence: str | None = None  # recorded

    @field_validator("files", mode="before")
    @classmethod
    def _lists(cls, files: Any) -> Any:
        """One file, or one a split, may be written without the list around it."""
        by_split = {"train": files} if isinstance(files, str | list) else files
        if not isinstance(by_split, dict):
            return by_split
        return {split: [one] if isinstance(one, str) else one for split, one in by_split.items()}

    @field_validator("files")
    @classmethod
    def _below_the_folder(cls, files: dict[SplitName, list[str]]) -> dict[SplitName, list[str]]:
        for name in [name for names in files.values() for name in names]:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "::" in name or "://" in name:
                raise ValueError(f"{name!r} must be a file in the folder of this one, which DVC watches")
            if path.suffix not in KINDS:
                raise ValueError(f"{name!r} is none of {', '.join(KINDS)}")
        if len({PurePosixPath(name).suffix for names in files.values() for name in names}) > 1:
            raise ValueError("all must be of one kind")
        return files

    @field_validator("splits", "files")
    @classmethod
    def _with_training_rows(cls, splits: dict[SplitName, Any]) -> dict[SplitName, Any]:
        if splits and not splits.get("train"):
            raise ValueError("'train' is missing")
        if splits.get("test", "none") in (splits.get("train"), []):
            raise ValueError(
                "'test' must be another than 'train': without it test rows are drawn from 'train'"
            )
        return splits

    @field_validator("sentence")
    @classmethod
    def _a_template(cls, sentence: str) -> str:
        if not any(column for _, column in parts(sentence)):
            raise ValueError("it names no column: write {column} where a row's text belongs")
        return sentence

    @field_validator("sentence", "label", "labels", "instruction", "suffix", "licence")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        texts = value.values() if isinstance(value, dict) else value or ""
        if LONE_SURROGATE.search("".join(texts)):
            raise ValueError("a text holds half of a character (a lone surrogate)")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> "DatasetTask":
        if bool(self.files) == bool(self.dataset):
            raise ValueError(
                "either 'dataset' (with 'revision') or 'files' (csv, json, jsonl, parquet) is needed"
            )
        if self.dataset and not re.fullmatch("[0-9a-f]{40}", self.revision or ""):
            raise ValueError(
                f"'revision' must be the 40-digit commit id that the data set is pinned to, "
                f"found {self.revision!r:.80}"
            )
        if self.files and self.model_fields_set & {"revision", "configuration", "splits"}:
            raise ValueError("'revision', 'configuration' and 'splits' belong to 'dataset', not to 'files'")
        return self

    @cached_property
    def answers(self) -> list[str]:
        """The permitted answers, each once where several values have the same."""
        if isinstance(self.labels, list):
            return [label.strip() for label in self.labels]
        return list(dict.fromkeys(label.strip() for label in self.labels.values()))

    @cached_property
    def columns(self) -> list[str]:
        """All columns that are read."""
        return list(dict.fromkeys([*(column for _, column in parts(self.sentence) if column), self.label]))

    def example(self, row: Mapping[str, Any], where: str) -> Example:
        """What a row of the data set becomes. Raises DataError that names `where` for one of no use."""
        sentence = "".join(
            text + (_written(find(row, column, where), column, where) if column else "")
            for text, column in parts(self.sentence)
        )
        label = self._answer(find(row, self.label, where), where)
        return check_example({"sentence": sentence, "label": label}, self.answers, where)

    def _answer(self, value: Any, where: str) -> Any:
        if isinstance(value, list) and not self.labels:
            return [_written(one, self.label, where) for one in value]
        plain = _plain(value, self.label, where)
        if not self.labels:
            return str(plain)
        named: dict[Any, str]
        if isinstance(self.labels, list):  # a text, or its number; where both fit, as with '1', the text
            named = dict(enumerate(self.answers)) | {answer: answer for answer in self.answers}
            plain = text if (text := str(plain).strip()) in named else plain
        else:
            named = dict(self.labels)
        if plain not in named:
            known = ", ".join(map(str if isinstance(self.labels, list) else repr, self.labels))
            raise DataError(f"{where}: the label {value!r:.80} is not among 'labels': {known:.400}")
        return named[plain].strip()


@cache
def parts(template: str) -> list[tuple[str, str | None]]:
    """The template's plain texts, each with the column that follows it, if any.

    Nothing else than a name can stand in braces: no attribute, index, call or format is evaluated. Raises
    ValueError that says where it is wrong.
    """
    found: list[tuple[str, str | None]] = []
    try:
        for text, column, form, conversion in string.Formatter().parse(template):
            if column is not None and (form or conversion or not column.strip()):
                raise ValueError(f"{{{column}}} can hold the name of a column alone")
            found.append((text, column))
    except ValueError as error:
        raise ValueError(f"{error}; a brace of the text itself is written twice, as {{{{ or }}}}") from None
    return found


def find(row: Mapping[str, Any], name: str, where: str) -> Any:
    """The value of a column, or of a part of one: `answers.text`, `choices.0`. DataError without one."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, Mapping) and part in value:
            value = value[part]
        else:
            raise DataError(f"{where}: there is no column {name!r}: {', '.join(map(str, row)):.400}")
    return value


def _plain(value: Any, column: str, where: str) -> str | int | float:
    """A text or number; a whole number is an int, as which a table with gaps does not store it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise DataError(f"{where}: the column {column!r} is empty (null): fill it or leave the row out")
    if not isinstance(value, str | int | float):
        raise DataError(
            f"{where}: the column {column!r} holds no text or number, found {type(value).__name__}: "
            f"{value!r:.80}"
        )
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _written(value: Any, column: str, where: str) -> str:
    return str(_plain(value, column, where))


def read_dataset_task(path: Path) -> DatasetTask:
    """The content of TASK.yaml. Raises DataError that names the file and its first fault."""
    content = read_yaml(path, missing="source 'datasets' needs such a file for every task")
    try:
        return DatasetTask.model_validate(content)
    except ValidationError as error:
        # Of a list or mapping: what is wrong within it, not that it is no mapping or no list
        fault = max(error.errors(include_url=False), key=lambda fault: len(fault["loc"]))
        field = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))
        if fault["type"] == "string_type" and not isinstance(fault["input"], dict | list):
            what = no_text(fault["input"])
        elif fault["type"] in ("missing", "extra_forbidden", "value_error"):
            what = fault["msg"].removeprefix("Value error, ")
        else:
            what = f"{fault['msg']}, found {fault['input']!r:.80}"
        raise DataError(f"{path}: {field + ': ' if field else ''}{what}") from None
