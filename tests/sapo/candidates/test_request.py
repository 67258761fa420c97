"""The request for a paraphrase: the instruction as it is, its labels, a manner, the last answer's faults."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.artifacts.task import Task
from sapo.candidates.checks import MAX_RATIO
from sapo.candidates.request import MANNERS, request_text

LANGUAGES = sorted(MANNERS)
SHORTEST = {language: min(map(len, manners)) for language, manners in MANNERS.items()}

untimed = settings(deadline=None, max_examples=60)  # how long a test takes depends on the machine
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
braces = st.lists(
    st.sampled_from(
        ["{", "}", "{{x}}", "{0}", "{!r:>9}", "%s", "$x", '"', "'", '"""', "\\", "\n", "<b>", "文本"]
    )
).map("".join)
names = st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=9)
languages = st.sampled_from(LANGUAGES)


def task(instruction: str, labels: list[str], language: str) -> Task:
    return Task("some task", instruction, "the suffix", labels, language, None, {}, [], [])


@untimed
@given(
    instruction=any_text | braces,
    language=languages,
    number=st.integers(0, 200),
    faults=st.lists(any_text | braces, max_size=3),
)
def test_fault_17_any_instruction_stands_in_the_request_as_it_is(
    instruction: str, language: str, number: int, faults: list[str]
) -> None:
    text = request_text(task(instruction, [], language), number, 0, faults)
    assert f'"""\n{instruction}\n"""' in text
    assert all(fault in text for fault in faults)


@untimed
@given(
    instruction=braces,
    language=languages,
    labels=st.lists(any_text | braces, max_size=4),
    number=st.integers(0, 99),
)
def test_fault_02_braces_never_break_the_request(
    instruction: str, language: str, labels: list[str], number: int
) -> None:
    assert instruction in request_text(
        task(instruction, labels, language), number, 1, ["{", "}", "{0}", "{x}"]
    )


@untimed
@given(
    held=st.lists(names, min_size=1, max_size=5, unique=True), language=languages, number=st.integers(0, 99)
)
def test_fault_17_every_label_that_the_instruction_holds_is_named(
    held: list[str], language: str, number: int
) -> None:
    instruction = f"({') ('.join(held)})"
    lacking = [label + "0" for label in held if label + "0" not in held]
    text = request_text(task(instruction, [*lacking, *held], language), number, 0).replace(instruction, "")
    listed = "、".join(held) if language == "zh" else ", ".join(held)
    assert f"：{listed}。" in text or f": {listed}." in text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("labels", [[], ["yes", "no"]])
def test_labels_that_the_instruction_does_not_hold_are_not_asked_for(
    language: str, labels: list[str]
) -> None:
    text = request_text(task("Name a colour.", labels, language), 0, 0)
    assert "labels" not in text
    assert "标签" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_different_numbers_ask_for_different_manners(language: str) -> None:
    one = task("Name a colour.", [], language)
    there = len(MANNERS[language])
    texts = [request_text(one, slot, 0) for slot in range(there)]
    assert there >= 10
    assert all(manner in text for manner, text in zip(MANNERS[language], texts, strict=True))
    assert all(
        manner in request_text(one, there + slot, 0) for slot, manner in enumerate(MANNERS[language])
    )  # and again


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_requests_are_the_same_and_another_attempt_asks_for_another_manner(language: str) -> None:
    one = task("Name a colour.", [], language)
    texts = [request_text(one, slot, attempt) for slot in range(25) for attempt in range(5)]
    assert len(set(texts)) == len(texts)
    for slot in range(25):
        used = [
            manner
            for attempt in range(5)
            for manner in MANNERS[language]
            if manner in request_text(one, slot, attempt)
        ]
        assert len(set(used)) == 5


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_faults_of_the_last_answer_are_told_only_when_there_are_some(language: str) -> None:
    one = task("Name a colour.", [], language)
    text = request_text(one, 0, 0, ["it is empty", "it lacks the labels A"])
    assert "it is empty" in text
    assert "it lacks the labels A" in text
    assert request_text(one, 0, 0, []) == request_text(one, 0, 0)
    assert len(request_text(one, 0, 0)) < len(text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_request_names_the_length_that_the_checks_allow(language: str) -> None:
    instruction = "Name a colour, then another one."
    assert f" {int(MAX_RATIO * len(instruction))} " in request_text(task(instruction, [], language), 3, 0)


def test_the_request_is_in_the_language_of_the_task() -> None:
    english = request_text(task("Name a colour.", [], "en"), 0, 0, ["it is empty"])
    chinese = request_text(task("说出一种颜色。", [], "zh"), 0, 0)
    assert english.isascii()
    assert "Rewrite" in english
    assert "重写" in chinese
    assert not any(word in chinese for word in ("Rewrite", "Manner", "instruction"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_plain_request_is_the_same_every_time_and_the_same_but_for_the_manner(language: str) -> None:
    one = task("Name a colour: red or blue.", ["red", "blue"], language)
    texts = {
        request_text(one, slot, attempt, faults, "plain")
        for slot in range(12)
        for attempt in range(3)
        for faults in ([], ["it is empty"])
    }
    [plain] = texts
    assert not any(manner in plain for manner in MANNERS[language])
    assert plain != request_text(one, 0, 0)
    [line] = set(plain.splitlines()) - set(request_text(one, 0, 0).splitlines())
    assert request_text(one, 0, 0).splitlines()[6].endswith(line)
