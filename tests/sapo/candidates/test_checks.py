"""What a candidate must be before it may compete."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.candidates.checks import MAX_RATIO, MIN_RATIO, faults, keeps_label, normalised

ORIGINAL = "Name the topic of the news item below; choose exactly one of acq, money-fx or ship."
GOOD = "Which of the topics ship, acq and money-fx does the following report belong to?"
LABELS = ["acq", "money-fx", "ship"]

untimed = settings(deadline=None)  # how long a test takes depends on the machine
letters = st.characters(categories=["Lu", "Ll", "Nd"], max_codepoint=0x7F)
words = st.text(letters, min_size=3, max_size=9)
sentences = st.lists(words, min_size=8, max_size=14).map(" ".join)
white = st.text(" \t\n\r\u00a0\u2003\u2028", max_size=80)
signs = st.text(".,;:!?-\u2013()'\" \n", max_size=8)


def test_a_good_paraphrase_has_no_fault() -> None:
    assert faults(GOOD, ORIGINAL, LABELS) == []
    assert faults(GOOD, ORIGINAL, LABELS, ["Say " + GOOD]) == []


@untimed
@given(candidate=white)
def test_fault_17_an_empty_candidate_is_refused(candidate: str) -> None:
    assert faults(candidate, ORIGINAL, LABELS) == ["it is empty"]
    assert faults(candidate, candidate, []) == ["it is empty"]


@untimed
@given(sign=st.sampled_from(".-_!\u200b\u200d\u3002\U0001f642"))
def test_fault_17_a_candidate_without_a_letter_is_refused(sign: str) -> None:
    assert faults(sign * len(ORIGINAL), ORIGINAL, []) != []


@untimed
@given(original=sentences, before=signs, after=signs)
def test_fault_17_the_original_in_another_dress_is_refused(original: str, before: str, after: str) -> None:
    for same in (original, original.upper(), before + original.replace(" ", "  ") + after):
        assert "it is the original" in faults(same, original, [])


@untimed
@given(accepted=st.lists(sentences, min_size=1, max_size=5), data=st.data())
def test_fault_17_a_duplicate_of_any_accepted_candidate_is_refused(
    accepted: list[str], data: st.DataObject
) -> None:
    candidate = data.draw(st.sampled_from(accepted)) + data.draw(signs)
    assert "it is a duplicate" in faults(candidate, ORIGINAL, [], accepted)
    others = [text for text in accepted if normalised(text) != normalised(candidate)]
    assert "it is a duplicate" not in faults(candidate, ORIGINAL, [], others)


@untimed
@given(lost=st.sets(st.sampled_from(LABELS), min_size=1))
def test_fault_17_every_label_that_is_lost_is_named(lost: set[str]) -> None:
    candidate = GOOD
    for label in lost:
        candidate = candidate.replace(label, "another")
    assert faults(candidate, ORIGINAL, LABELS) == [
        f"it lacks the labels {', '.join(x for x in LABELS if x in lost)}"
    ]


@pytest.mark.parametrize(
    "changed", ["Money-FX", "money fx", "money-fxs", "eurmoney-fx", "money-fx-spot", "non-money-fx", "money"]
)
def test_fault_17_a_label_must_stand_verbatim_and_whole(changed: str) -> None:
    assert faults(GOOD.replace("money-fx", changed), ORIGINAL, LABELS) == ["it lacks the labels money-fx"]


@pytest.mark.parametrize("around", ["{}", "'{}'", '"{}".', "({})", "{},", "{}/ship", "label:{}", "{}."])
def test_a_label_may_stand_between_any_signs(around: str) -> None:
    assert keeps_label(around.format("money-fx"), "money-fx")


@pytest.mark.parametrize(
    ("label", "text"),
    [("A", "输出A或B"), ("B", "输出A或B"), ("A", "A是支持"), ("B", "选B"), ("C", "A、B、C三项")],
)
def test_a_letter_between_chinese_characters_is_kept(label: str, text: str) -> None:
    assert keeps_label(text, label)


@pytest.mark.parametrize(
    ("label", "text"), [("支持", "请回答支持或反对"), ("支持", "支持"), ("中立", "A.支持，B.反对，C.中立。")]
)
def test_a_chinese_label_needs_no_space_around_it(label: str, text: str) -> None:
    assert keeps_label(text, label)


@pytest.mark.parametrize(
    "text", ["输出AB或C", "输出A1或B", "输出a或b", "输出Ａ或Ｂ", "输出甲或乙", "A-B的选择", "输出éA或B", ""]
)
def test_fault_17_a_letter_within_a_word_is_not_kept_in_chinese_either(text: str) -> None:
    assert not keeps_label(text, "A")


def test_fault_17_a_chinese_paraphrase_that_loses_a_letter_is_refused() -> None:
    original, labels = "判断文本的态度，选择一项：A.支持，B.反对，C.中立。输出A，B或者C。", ["A", "B", "C"]
    assert faults("读完文本后回答态度：支持选A，反对选B，中立选C。", original, labels) == []
    assert faults("读完文本后回答态度：支持选A，反对选B，否则中立。", original, labels) == [
        "it lacks the labels C"
    ]


@untimed
@given(label=st.text(st.sampled_from("ab.*+?()[]{}|\\^$"), min_size=1, max_size=6))
def test_a_label_of_signs_is_taken_literally(label: str) -> None:
    assert keeps_label(f"choose {label} here", label)
    assert not keeps_label("choose something else here", label)


def test_a_label_that_the_original_does_not_hold_is_not_asked_for() -> None:
    assert faults(GOOD, ORIGINAL, [*LABELS, "grain"]) == []


@untimed
@given(original=sentences, filler=letters, length=st.integers(1, 700))
def test_fault_17_a_candidate_that_is_too_short_or_too_long_is_refused(
    original: str, filler: str, length: int
) -> None:
    too_far = length < MIN_RATIO * len(original) or length > MAX_RATIO * len(original)
    assert any("its length" in fault for fault in faults(filler * length, original, [])) == too_far


@pytest.mark.parametrize(
    "token",
    [
        "<|im_end|>",
        "<|im_start|>",
        "<|endoftext|>",
        "<|start_header_id|>",
        "<|eot_id|>",
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<</SYS>>",
        "<think>",
        "</think>",
    ],
)
def test_a_control_token_of_a_chat_template_is_refused(token: str) -> None:
    assert faults(f"{GOOD} {token}", ORIGINAL, LABELS) == ["it holds a control token of a chat template"]


@untimed
@given(sign=st.characters(categories=["Cc"], exclude_characters="\n\t"), place=st.integers(0, len(GOOD)))
def test_a_control_character_is_refused(sign: str, place: int) -> None:
    found = faults(f"{GOOD[:place]} {sign} {GOOD[place:]}", ORIGINAL, [])
    assert found == ["it holds a control character"]


def test_half_of_a_surrogate_pair_which_no_file_can_hold_is_refused() -> None:
    assert faults(f"{GOOD} \ud83d", ORIGINAL, LABELS) == ["it holds a control character"]


@pytest.mark.parametrize("white", ["\n", "\t", "\n\n\t- ", "\u3000", "\u00a0"])
def test_white_space_is_no_control_character(white: str) -> None:
    assert faults(GOOD.replace(" ", white), ORIGINAL, LABELS) == []


@pytest.mark.parametrize(
    "text",
    [
        "{sentence}",
        '"quoted"',
        "a < b | c > d",
        "[see below]",
        "支持",
        "<b>bold</b>",
        "[INSTANT]",
        "<sys> <thinking>",
    ],
)
def test_fault_17_braces_quotes_and_other_scripts_are_no_fault(text: str) -> None:
    assert faults(f"{GOOD} {text}", ORIGINAL, LABELS) == []


def test_every_fault_is_told_at_once() -> None:
    assert len(faults("</s>", ORIGINAL, LABELS)) == 3
