"""Drawing a task's rows from all that its source holds."""

import itertools
import random
from collections.abc import Mapping

from sapo.artifacts.task import Example

TEST_SHARE = 0.2  # of the rows, where the source has no test split of its own


def _label_by_label(pool: list[Example]) -> list[Example]:
    """The rows in rounds of one row a label, so that the first n hold every label about equally often."""
    by_label: dict[str, list[Example]] = {}
    for example in pool:
        by_label.setdefault(example.label, []).append(example)
    rounds = itertools.zip_longest(*by_label.values())
    return [example for one_round in rounds for example in one_round if example]


def draw_rows(
    name: str, pools: Mapping[str, list[Example]], labels: list[str], rows: tuple[int, int], seed: int
) -> tuple[list[Example], list[Example]]:
    """At most `rows` training and test rows of the task `name`, drawn by `seed`.

    pools: the rows of each split without repeats, `train` and `test`, or `all` to be split here. The first n
    rows are the same however many are asked for. Labels are about equally frequent, where there are any. No
    text is in both splits.
    """
    shuffled = {split: list(pool) for split, pool in pools.items()}
    shuffle = random.Random(f"{seed}/{name}").shuffle
    for pool in shuffled.values():
        shuffle(pool)
    if "all" in shuffled:
        held_out = round(len(shuffled["all"]) * TEST_SHARE)
        shuffled = {"test": shuffled["all"][:held_out], "train": shuffled["all"][held_out:]}
    if labels:
        shuffled = {split: _label_by_label(pool) for split, pool in shuffled.items()}
    tested = {example.sentence.strip() for example in shuffled["test"]}
    train = [example for example in shuffled["train"] if example.sentence.strip() not in tested]
    return train[: rows[0]], shuffled["test"][: rows[1]]
