"""The repository's own paraphrases pass its own checks, and a bank that does not fit is refused."""

import hashlib
import os
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from sapo.artifacts.task import Task
from sapo.candidates import bank
from sapo.candidates.bank import from_bank
from sapo.candidates.checks import SPECIAL, faults, normalised
from sapo.data.catalog import task_folders
from sapo.data.folder import check_about, language_of, make_task
from sapo.data.sources import EMBEDDED, SOURCES
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json

REPOSITORY = Path(__file__).parents[3]
BENCHMARKS = Path(os.environ.get("SAPO_BENCHMARKS") or REPOSITORY.parent / "shared" / "benchmarks")
TASKS = sorted(SOURCES["embedded"].known())
# The one has an empty instruction, the other is not in instructions.json: nothing that could be paraphrased
WITHOUT_INSTRUCTION = {"Py150", "task1510_evalution_relation_extraction_ori"}
CATALOGUED = sorted(task_folders().keys() - WITHOUT_INSTRUCTION)
CHINESE = {"C-STANCE"}
ALIKE = 0.5  # the share of common trigrams from which two texts are one with words swapped
COPIED = {
    "en": 6,
    "zh": 12,
}  # so many words, or Chinese characters, in a row are a quotation, not a paraphrase
ORIGINAL = "Say whether the review below is positive or negative."
GOOD = [
    f"{start} whether you find this review positive or negative." for start in ("Decide", "Tell", "Judge")
]


def embedded(name: str) -> Task:
    about = yaml.safe_load((EMBEDDED / f"{name}.yaml").read_text(encoding="utf-8"))
    return Task(name=name, source={}, train=[], test=[], **about)


def trigrams(text: str) -> set[str]:
    """Every run of three letters or digits, without case, punctuation and white space."""
    plain = normalised(text)
    return {plain[i : i + 3] for i in range(len(plain) - 2)}


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((bank.BANK / f"{name}.yaml").read_text(encoding="utf-8"))


def catalogued(name: str) -> Task:
    """The task as its published instructions.json describes it, without rows."""
    benchmark, key = task_folders()[name].split("/")
    path = BENCHMARKS / benchmark / "instructions.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the banks' fit to the published instructions is not checked")
    return make_task(name, check_about(read_json(path), key, str(path)), [], [], {}, (0, 0))


def runs(text: str, length: int) -> set[str]:
    """Every run of so many words, without case and punctuation; a Chinese character is a word."""
    words = re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", text.casefold())
    return {" ".join(words[i : i + length]) for i in range(len(words) - length + 1)}


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """Write a bank of the given entries into an empty folder of banks; returns the task it is for."""

    def write(entries: list[Any]) -> Task:
        digest = hashlib.sha256(ORIGINAL.encode()).hexdigest()
        content = {
            "task": "reviews",
            "provenance": "a test",
            "instruction_sha256": digest,
            "paraphrases": entries,
        }
        (tmp_path / "reviews.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return Task("reviews", ORIGINAL, "", ["positive", "negative"], "en", 8, {}, [], [])

    return write


@pytest.mark.parametrize("name", TASKS)
def test_every_bank_gives_twenty_paraphrases_that_differ_and_keep_the_labels(name: str) -> None:
    task = embedded(name)
    candidates = from_bank(task, 20)
    assert len({normalised(text) for text in [task.instruction, *candidates]}) == 21
    for text in candidates:
        assert faults(text, task.instruction, task.labels) == []
        assert all(label in text for label in task.labels), text


@pytest.mark.parametrize("name", [*TASKS, *CATALOGUED])
def test_every_bank_tells_where_it_comes_from(name: str) -> None:
    content = read(name)
    assert content["task"] == name
    assert content["provenance"].strip()
    assert content.keys() == {"task", "provenance", "instruction_sha256", "paraphrases"}


def test_every_task_with_an_instruction_has_a_bank_and_no_bank_is_for_another_task() -> None:
    assert len(CATALOGUED) == 32
    assert {path.stem for path in bank.BANK.iterdir()} == {*TASKS, *CATALOGUED}
    assert {path.suffix for path in bank.BANK.iterdir()} == {".yaml"}


@pytest.mark.parametrize("name", CATALOGUED)
def test_every_bank_of_a_catalogued_task_holds_twenty_different_texts_and_a_hash(name: str) -> None:
    content = read(name)
    texts = content["paraphrases"]
    assert len(texts) == 20 == len({normalised(text) for text in texts})
    assert re.fullmatch("[0-9a-f]{64}", content["instruction_sha256"])
    for text in texts:
        assert text == text.strip() != ""
        assert text.isprintable()
        assert not SPECIAL.search(text)


@pytest.mark.parametrize("name", [*TASKS, *CATALOGUED])
def test_no_two_paraphrases_of_a_bank_are_one_with_words_swapped(name: str) -> None:
    for one, other in combinations(read(name)["paraphrases"], 2):
        first, second = trigrams(one), trigrams(other)
        assert len(first & second) < ALIKE * len(first | second), (one, other)


@pytest.mark.parametrize("name", [*TASKS, *CATALOGUED])
def test_every_bank_is_in_the_language_of_its_task(name: str) -> None:
    for text in read(name)["paraphrases"]:
        if name in CHINESE:
            assert language_of(text) == "zh"
            assert not re.search(r"[,;:?!()\"']|[A-Za-z]{2}", text), text
        else:
            assert text.isascii(), text


@pytest.mark.parametrize("name", CATALOGUED)
def test_every_bank_of_a_catalogued_task_fits_the_published_instruction(name: str) -> None:
    task = catalogued(name)
    candidates = from_bank(task, 20)
    assert candidates == read(name)["paraphrases"]
    assert len({normalised(text) for text in [task.instruction, *candidates]}) == 21
    assert (task.language == "zh") == (name in CHINESE)
    for text in candidates:
        assert faults(text, task.instruction, task.labels) == []


@pytest.mark.parametrize("name", CATALOGUED)
def test_no_paraphrase_quotes_the_published_instruction(name: str) -> None:
    task = catalogued(name)
    length = COPIED[task.language]
    for text in read(name)["paraphrases"]:
        assert runs(task.instruction, length) & runs(text, length) == set(), text


@pytest.mark.parametrize("name", CATALOGUED)
def test_fault_03_paraphrases_of_another_published_wording_are_refused(name: str) -> None:
    task = catalogued(name)
    with pytest.raises(DataError, match=rf"{re.escape(name)}\.yaml was written for another wording"):
        from_bank(replace(task, instruction=task.instruction + "."), 1)
    assert from_bank(replace(task, instruction=f" {task.instruction}\n"), 1) == from_bank(task, 1)


def test_the_catalogued_tasks_without_a_bank_have_no_instruction() -> None:
    assert catalogued("Py150").instruction == ""
    with pytest.raises(DataError, match="has no entry 'task1510_evalution_relation_extraction_ori'"):
        catalogued("task1510_evalution_relation_extraction_ori")


def test_a_smaller_count_gives_the_first_ones() -> None:
    task = embedded("reuters_r8")
    assert from_bank(task, 3) == from_bank(task, 20)[:3]


@pytest.mark.parametrize("name", TASKS)
def test_fault_03_paraphrases_of_another_wording_are_refused(name: str) -> None:
    task = embedded(name)
    with pytest.raises(DataError, match=rf"{name}\.yaml was written for another wording"):
        from_bank(replace(task, instruction=task.instruction + "."), 1)
    assert from_bank(replace(task, instruction=f" {task.instruction}\n"), 1) == from_bank(task, 1)


def test_a_bank_that_is_too_short_is_refused(own: Any, tmp_path: Path) -> None:
    task = own(GOOD)
    assert from_bank(task, 3, tmp_path) == GOOD
    with pytest.raises(DataError, match=r"reviews\.yaml holds 3 paraphrases, paraphrase\.count asks for 4"):
        from_bank(task, 4, str(tmp_path))


def test_a_task_without_a_bank_is_an_error_that_names_the_file(own: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"films\.yaml is missing"):
        from_bank(replace(own(GOOD), name="films"), 1, tmp_path)


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
def test_fault_17_an_entry_that_fails_a_check_is_named_by_file_and_number(
    own: Any, tmp_path: Path, entry: Any, fault: str
) -> None:
    task = own([GOOD[0], entry, GOOD[1]])
    with pytest.raises(DataError, match=rf"reviews\.yaml, paraphrase 2: .*{fault}"):
        from_bank(task, 3, tmp_path)
    assert from_bank(task, 1, tmp_path) == GOOD[:1]
