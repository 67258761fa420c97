"""A prompt, text by text and token by token."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from sapo.artifacts.task import Example
from sapo.prompts.encoder import PromptEncoder, user_turn
from sapo.runtime.errors import DataError
from tiny import HEAD, TAIL

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(str.strip)
SUFFIX = "Answer with one word."


def test_the_rendered_prompt_is_what_the_template_says(
    encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase
) -> None:
    [row] = encoder.encode("Judge it.", SUFFIX, "en", [Example("Fine {day}.", "good")], answers=True)
    assert tokenizer.decode(row.prompt) == (
        "<|im_start|>user\nJudge it.\n\nText:\nFine {day}.\n\nAnswer with one word.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert tokenizer.decode(row.answer) == "good<|im_end|>"  # fault 10: no newline after the end of the turn


def test_fault_05_the_first_token_of_the_template_is_there_once(
    encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase
) -> None:
    [row] = encoder.encode("Judge it.", SUFFIX, "en", [Example("Fine.", "good")], answers=False)
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert row.prompt[0] == start
    assert row.prompt.count(start) == 2  # user and assistant


@settings(deadline=None, max_examples=60)
@given(instruction=ANY_TEXT, sentence=ANY_TEXT)
def test_fault_02_any_text_reaches_the_model_unchanged(
    tokenizer: PreTrainedTokenizerBase, instruction: str, sentence: str
) -> None:
    wide = PromptEncoder(tokenizer, 4000, {})
    [row] = wide.encode(instruction, SUFFIX, "en", [Example(sentence, "good")], answers=False)
    assert tokenizer.decode(row.prompt, clean_up_tokenization_spaces=False) == (
        HEAD + f"{instruction}\n\nText:\n{sentence}\n\n{SUFFIX}" + TAIL
    )


def test_a_text_that_spells_a_control_token_stays_text(
    encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase
) -> None:
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    [row] = encoder.encode(
        "Judge.", SUFFIX, "en", [Example("stop <|im_end|> here", "good <|im_end|>")], answers=True
    )
    assert row.prompt.count(end) == 1
    assert row.answer.count(end) == 1
    assert "stop <|im_end|> here" in tokenizer.decode(row.prompt)


@settings(deadline=None, max_examples=60)
@given(sentence=ANY_TEXT.map(lambda text: (text.strip() + " ") * 12), bound=st.integers(120, 300))
def test_fault_12_only_the_sentence_is_cut(
    tokenizer: PreTrainedTokenizerBase, sentence: str, bound: int
) -> None:
    encoder = PromptEncoder(tokenizer, bound, {})
    [row] = encoder.encode("Judge it.", SUFFIX, "en", [Example(sentence, "good")], answers=True)
    text = tokenizer.decode(row.prompt, clean_up_tokenization_spaces=False)
    head, tail = HEAD + "Judge it.\n\nText:\n", f"\n\n{SUFFIX}" + TAIL
    assert len(row.prompt) <= bound
    assert text.startswith(head)
    assert text.endswith(tail)
    assert sentence.startswith(text[len(head) : len(text) - len(tail)])
    assert tokenizer.decode(row.answer) == "good<|im_end|>"


def test_no_room_for_any_text_is_an_error_that_names_the_bound(tokenizer: PreTrainedTokenizerBase) -> None:
    encoder = PromptEncoder(tokenizer, 60, {})
    with pytest.raises(DataError, match=r"prompt\.max_tokens = 60"):
        encoder.encode(
            "A very long instruction. " * 10, SUFFIX, "en", [Example("text", "good")], answers=False
        )


def test_fault_13_parts_are_joined_by_one_blank_line_whatever_their_length() -> None:
    assert user_turn("Do.", "text", "?", "en") == "Do.\n\nText:\ntext\n\n?"
    assert user_turn("做。", "文", "答:", "zh") == "做。\n\n文本:\n文\n\n答:"
    assert user_turn("", "code", "", "en") == "\n\nText:\ncode"
    assert user_turn("Do. ", "\ttext\n", " ?", "en") == "Do. \n\nText:\n\ttext\n\n\n ?"


def test_an_empty_answer_is_the_end_of_turn_alone(encoder: PromptEncoder) -> None:
    rows = [Example("a", "yes"), Example("b", ""), Example("c", "", ("none",))]
    _, *empty = encoder.encode("Judge it.", SUFFIX, "en", rows, answers=True)
    assert [row.answer for row in empty] == [[encoder.end_of_turn]] * 2


def test_a_text_of_which_only_white_space_would_be_seen_is_refused(encoder: PromptEncoder) -> None:
    row = Example(" \n" * 5000 + "text", "yes")
    with pytest.raises(DataError, match="leaves no room for any text"):
        encoder.encode("Judge it.", SUFFIX, "en", [row], answers=False)


def test_a_template_that_hides_the_text_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = "hello"
        with pytest.raises(DataError, match="chat template"):
            PromptEncoder(tokenizer, 100, {})
    finally:
        tokenizer.chat_template = template


def test_a_template_that_asks_for_the_date_is_told_the_same_one_always_and_the_log_says_so(
    tokenizer: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sapo")
    plain = PromptEncoder(tokenizer, 400, {})
    assert "date" not in caplog.text
    header = "{% if strftime_now is defined %}It is {{ strftime_now( '%A, %d %b %Y %H:%M') }}.{% endif %}"
    dated = {"chat_template": header + tokenizer.chat_template}
    encoder = PromptEncoder(tokenizer, 400, dated)
    [row] = encoder.encode("Judge it.", SUFFIX, "en", [Example("a text", "yes")], answers=False)
    assert "It is Friday, 26 Jul 2024 00:00." in tokenizer.decode(row.prompt)
    assert caplog.text.count("asks for the date: it is always told 2024-07-26") == 1
    assert encoder.template_sha256 != plain.template_sha256
    assert PromptEncoder(tokenizer, 90, dated).template_sha256 == encoder.template_sha256


@pytest.mark.parametrize(
    "tag",
    [
        "{{ strftime_now(format) }}",
        "{{ strftime_now('%d' ~ '%m') }}",
        "{% set now = strftime_now %}{{ now('%H') }}",
        "{% for one in [strftime_now] %}{{ one('%H') }}{% endfor %}",
        "{{ 'ab' | random }}",
        "{{ ['ab'] | map('random') | first }}",
        "{% filter random %}ab{% endfilter %}",
        "{{ lipsum() }}",
    ],
)
def test_a_template_whose_prompts_would_change_is_refused(
    tokenizer: PreTrainedTokenizerBase, tag: str
) -> None:
    with pytest.raises(
        DataError, match=r"so that its prompts change: give .*template_options\.chat_template"
    ):
        PromptEncoder(tokenizer, 100, {"chat_template": tokenizer.chat_template + tag})


@pytest.mark.parametrize(
    "text", ["{# strftime_now(x) #}", "Pick a random one.", "{% if strftime_now is defined %}a{% endif %}"]
)
def test_a_template_that_only_speaks_of_it_is_not(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert PromptEncoder(tokenizer, 100, {"chat_template": text + tokenizer.chat_template}).template_sha256


@pytest.mark.parametrize("change", ["x", " ", "{{ '' }}"])
def test_a_record_knows_what_a_template_renders(tokenizer: PreTrainedTokenizerBase, change: str) -> None:
    """And no more: a template that is only written in another way is the same."""
    assistant = "{{ '<|im_start|>assistant"
    assert assistant in tokenizer.chat_template
    other = tokenizer.chat_template.replace(assistant, change + assistant)
    found = PromptEncoder(tokenizer, 100, {"chat_template": other}).template_sha256
    assert (found == PromptEncoder(tokenizer, 100, {}).template_sha256) == (change == "{{ '' }}")


def test_rows_do_not_depend_on_their_neighbours(encoder: PromptEncoder, examples: list[Example]) -> None:
    together = encoder.encode("Judge it.", SUFFIX, "en", examples, answers=True)
    alone = [
        encoder.encode("Judge it.", SUFFIX, "en", [replace(example)], answers=True)[0] for example in examples
    ]
    assert together == alone
