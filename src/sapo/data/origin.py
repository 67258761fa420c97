"""Where an embedded task's rows are, and how tables in wheels are read."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sapo.data.wheels import Wheel

Row = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """A wheel and each split's members (`all`: to be split here), all of one kind.

    read: the rows of one member's text; a row without a label has the member's name as its label.
    cut: whether a text still asks the same when only its first words are kept.
    """

    wheel: Wheel
    members: Mapping[str, Sequence[str]]
    read: Callable[[str], Iterator[Row]]
    licence: str
    cut: bool


def tab(text: str) -> list[dict[str, str]]:
    """Rows of an Orange .tab file: names, types and roles stand in its first three lines."""
    rows = list(csv.reader(io.StringIO(text), delimiter="\t"))
    return [dict(zip(rows[0], row, strict=False)) for row in rows[3:] if row]


def json_lines(text: str) -> Iterator[dict[str, Any]]:
    """Rows of a JSON Lines file."""
    return map(json.loads, text.strip().split("\n"))


def one_line(text: str) -> str:
    """The text with single blanks for all white space."""
    return " ".join(text.split())
