"""The user's own paraphrases: read from one file, checked, and refused by name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from paraphrase import collect
from sapo.artifacts.task import Task
from sapo.candidates.file import from_file
from sapo.config import Paraphrase
from sapo.runtime.errors import DataError

ORIGINAL = "Say whether the review below is positive or negative."
GOOD = [
    f"{start} whether you find this review positive or negative."
    for start in ("Decide", "Tell {me}", 'Judge "well"')
]
REVIEWS = Task("reviews", ORIGINAL, "", ["positive", "negative"], "en", 8, {}, [], [])

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the content into a file; returns its path."""

    def into(content: Any, name: str = "own.yaml") -> str:
        path = tmp_path / name
        path.write_bytes(
            content if isinstance(content, bytes) else yaml.safe_dump(content, allow_unicode=True).encode()
        )
        return str(path)

    return into


def refused(path: str, count: int, *named: str, task: Task = REVIEWS) -> None:
    with pytest.raises(DataError) as caught:
        from_file(task, count, path)
    for part in (path, *named):
        assert part in str(caught.value)


def test_the_first_ones_under_the_task_s_name_are_taken(write: Write) -> None:
    path = write({"films": ["something else"], "reviews": GOOD})
    assert from_file(REVIEWS, 3, path) == GOOD
    assert from_file(REVIEWS, 2, path) == GOOD[:2]


def test_a_json_file_is_read_too(write: Write) -> None:
    chinese = "这条评论是 positive 还是 negative？请说出两个词中的一个。"
    for ensure_ascii in (True, False):
        content = json.dumps({"reviews": [*GOOD, chinese]}, indent=1, ensure_ascii=ensure_ascii).encode()
        assert from_file(REVIEWS, 4, write(content, "own.json")) == [*GOOD, chinese]


def test_white_space_around_a_paraphrase_is_removed(write: Write) -> None:
    folded = "  - >-\n    Judge it: positive\n    or negative?\n"
    literal = "  - |\n    Decide whether you find this review\n    positive or negative.\n\n"
    found = from_file(REVIEWS, 2, write(f"reviews:\n{literal}{folded}".encode()))
    assert found == [
        "Decide whether you find this review\npositive or negative.",
        "Judge it: positive or negative?",
    ]


def test_what_follows_the_wanted_ones_may_be_unfinished(write: Write) -> None:
    assert from_file(REVIEWS, 2, write({"reviews": [*GOOD[:2], None, ""]})) == GOOD[:2]


@pytest.mark.parametrize("name", ["absent.yaml", "absent/own.yaml", "."])
def test_a_file_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    refused(str(tmp_path / name), 1, "paraphrase.path", "cannot be read")


@pytest.mark.parametrize(
    "content",
    [
        b"reviews: [1",
        b"a: b: c",
        b"\treviews: []",
        b"reviews: !!python/object:os.system {}",
        b"\xff\xfe\x00",
        b"reviews: [caf\xe9]",
    ],
    ids=["open list", "two colons", "tab", "object", "binary", "latin-1"],
)
def test_a_file_that_is_no_yaml_or_not_utf_8_is_named(write: Write, content: bytes) -> None:
    refused(write(content), 1, "paraphrase.path", "cannot be read as YAML")


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        GOOD,
        "reviews",
        {},
        {"films": GOOD},
        {"reviews": None},
        {"reviews": GOOD[0]},
        {"reviews": {"1": GOOD[0]}},
    ],
)
def test_a_file_without_a_list_under_the_task_s_name_is_refused(write: Write, content: Any) -> None:
    refused(write(content), 1, "no list under 'reviews'")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("2021", "2021"), ("1e3", "1000.0"), ("true", "true"), ("2021-01-02", "2021-01-02"), ("~", "null")],
)
def test_a_task_or_text_that_yaml_takes_for_no_text_is_to_be_put_in_quotes(
    write: Write, name: str, shown: str
) -> None:
    listed = f"  - {GOOD[0]}\n"
    say = "is not a text in YAML: put it in quotes"
    refused(write(f"{name}:\n{listed}".encode()), 1, f"the key {shown}", say)
    refused(write(f"reviews:\n{listed}  - {name}\n".encode()), 2, f"reviews, paraphrase 2: {shown}", say)
    assert from_file(replace(REVIEWS, name=name), 1, write(f"'{name}':\n{listed}".encode())) == GOOD[:1]


def test_a_list_that_is_too_short_is_refused(write: Write) -> None:
    refused(write({"reviews": GOOD}), 4, "lists 3 paraphrases of reviews, paraphrase.count asks for 4")
    refused(write({"reviews": []}), 1, "lists 0 paraphrases")


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("", "it is empty"),
        (None, "null is not a text in YAML: put it in quotes"),
        (3, "3 is not a text in YAML: put it in quotes"),
        (["positive", "negative"], "it is not a text"),
        (ORIGINAL.upper(), "it is the original"),
        (GOOD[0].replace(" ", "  "), "it is a duplicate"),
        ("Judge the review in front of you as good or negative.", "it lacks the labels positive"),
        ("positive, negative?" + " Indeed." * 40, "its length"),
        (GOOD[2] + "<|im_end|>", "control token"),
        (GOOD[2] + "\x07", "control character"),
    ],
)
def test_fault_17_one_that_fails_a_check_is_named_by_file_task_and_number(
    write: Write, entry: Any, fault: str
) -> None:
    path = write({"reviews": [GOOD[0], entry, GOOD[1]]})
    refused(path, 3, f"{path}, reviews, paraphrase 2: ", fault)
    assert from_file(REVIEWS, 1, path) == GOOD[:1]


def test_fault_03_the_file_is_read_anew_every_time(write: Write) -> None:
    assert from_file(REVIEWS, 1, write({"reviews": GOOD})) == GOOD[:1]
    assert from_file(REVIEWS, 1, write({"reviews": GOOD[::-1]})) == GOOD[:1:-1]


def test_the_stage_takes_them_from_the_file_that_the_settings_name(write: Write) -> None:
    settings = Paraphrase(
        source="file",
        count=2,
        path=write({"reviews": GOOD}),
        model="none",
        style="manners",
        temperature=0.0,
        concurrency=1,
    )
    assert collect(REVIEWS, settings) == (GOOD[:2], None)
    with pytest.raises(DataError, match="no list under 'films'"):
        collect(replace(REVIEWS, name="films"), settings)
