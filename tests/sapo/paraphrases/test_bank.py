"""The repository's own paraphrases pass its own checks, and a bank that does not fit is refused."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sapo.benchmarks import EMBEDDED, known_tasks
from sapo.files import DataError
from sapo.paraphrases import bank
from sapo.paraphrases.bank import from_bank
from sapo.paraphrases.checks import faults, normalised
from sapo.tasks import Task

ORIGINAL = "Say whether the review below is positive or negative."
GOOD = [f"{start} whether you find this review positive or negative." for start in ("Decide", "Tell", "Judge")]


def embedded(name: str) -> Task:
    about = yaml.safe_load((EMBEDDED / f"{name}.yaml").read_text(encoding="utf-8"))
    return Task(name=name, source={}, train=[], test=[], **about)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a bank of the given entries into an empty folder of banks; returns the task it is for."""
    monkeypatch.setattr(bank, "BANK", tmp_path)

    def write(entries: list[Any]) -> Task:
        digest = hashlib.sha256(ORIGINAL.encode()).hexdigest()
        content = {"task": "reviews", "provenance": "a test", "instruction_sha256": digest, "paraphrases": entries}
        (tmp_path / "reviews.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return Task("reviews", ORIGINAL, "", ["positive", "negative"], "en", 8, {}, [], [])

    return write


@pytest.mark.parametrize("name", sorted(known_tasks()))
def test_every_bank_gives_twenty_paraphrases_that_differ_and_keep_the_labels(name: str) -> None:
    task = embedded(name)
    candidates = from_bank(task, 20)
    assert len({normalised(text) for text in [task.instruction, *candidates]}) == 21
    for text in candidates:
        assert faults(text, task.instruction, task.labels) == []
        assert all(label in text for label in task.labels), text


@pytest.mark.parametrize("name", sorted(known_tasks()))
def test_every_bank_tells_where_it_comes_from(name: str) -> None:
    content = yaml.safe_load((bank.BANK / f"{name}.yaml").read_text(encoding="utf-8"))
    assert content["task"] == name
    assert content["provenance"].strip()


def test_a_smaller_count_gives_the_first_ones() -> None:
    task = embedded("reuters_r8")
    assert from_bank(task, 3) == from_bank(task, 20)[:3]


@pytest.mark.parametrize("name", sorted(known_tasks()))
def test_fault_03_paraphrases_of_another_wording_are_refused(name: str) -> None:
    task = embedded(name)
    with pytest.raises(DataError, match=rf"{name}\.yaml was written for another wording"):
        from_bank(replace(task, instruction=task.instruction + " "), 1)


def test_a_bank_that_is_too_short_is_refused(own: Any) -> None:
    task = own(GOOD)
    assert from_bank(task, 3) == GOOD
    with pytest.raises(DataError, match=r"reviews\.yaml holds 3 paraphrases, paraphrase\.count asks for 4"):
        from_bank(task, 4)


def test_a_task_without_a_bank_is_an_error_that_names_the_file(own: Any) -> None:
    with pytest.raises(DataError, match=r"films\.yaml is missing"):
        from_bank(replace(own(GOOD), name="films"), 1)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("", "it is empty"),
        (ORIGINAL.upper(), "it is the original"),
        (GOOD[0].replace(" ", "  "), "it is a duplicate"),
        ("Judge the review in front of you as good or negative.", "it lacks the labels positive"),
        ("positive?", "its length"),
        (GOOD[2] + " Indeed." * 40, "its length"),
        (GOOD[2] + "<|im_end|>", "control token"),
        (None, ""),
        (["positive", "negative"], ""),
    ],
)
def test_fault_17_an_entry_that_fails_a_check_is_named_by_file_and_number(own: Any, entry: Any, fault: str) -> None:
    task = own([GOOD[0], entry, GOOD[1]])
    with pytest.raises(DataError, match=rf"reviews\.yaml, paraphrase 2: .*{fault}"):
        from_bank(task, 3)
    assert from_bank(task, 1) == GOOD[:1]
