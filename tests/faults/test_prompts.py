"""Faults between a task's rows and the tokens that a model reads."""

import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from faulty import tell_apart
from sapo.artifacts.task import Example
from sapo.prompts.batches import my_batches
from sapo.prompts.encoder import Encoded, PromptEncoder, user_turn
from tiny import SUFFIX, TAIL


def test_fault_02_braces_in_an_instruction_lose_no_text(
    encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase
) -> None:
    def prompt(instruction: str, sentence: str) -> str:
        [row] = encoder.encode(instruction, SUFFIX, "en", [Example(sentence, "yes")], answers=False)
        return tokenizer.decode(row.prompt)

    def with_format(instruction: str, sentence: str) -> str:
        content = instruction
        try:
            content = (instruction + "\n\nText:\n{0}\n\n" + SUFFIX).format(sentence)
        finally:
            return content  # noqa: B012 - this is the fault

    def check(rendering: Callable[[str, str], str]) -> None:
        for instruction in ("Judge it.", "Judge {x}.", "Judge {{x}}.", "One { brace.", "{0}", "%s $x"):
            assert f"{instruction}\n\nText:\nthe {{text}}\n\n{SUFFIX}" in rendering(instruction, "the {text}")

    tell_apart(check, prompt, with_format)


def test_fault_05_the_first_token_of_the_template_is_kept(
    encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase
) -> None:
    turn = [{"role": "user", "content": user_turn("Judge it.", "A text.", SUFFIX, "en")}]

    def ids() -> list[int]:
        [row] = encoder.encode("Judge it.", SUFFIX, "en", [Example("A text.", "yes")], answers=False)
        return row.prompt

    def ids_without_first() -> list[int]:
        text = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
        return tokenizer(text.removeprefix(str(tokenizer.bos_token)))["input_ids"]

    def check(encode: Callable[[], list[int]]) -> None:
        stock: Any = tokenizer.apply_chat_template(
            turn, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        assert encode() == stock["input_ids"]

    tell_apart(check, ids, ids_without_first)


def test_fault_09_every_row_counts_once_whatever_the_number_of_processes(
    rows: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dealt(count: int) -> list[int]:
        return list(
            itertools.chain.from_iterable(
                p for p, counts in my_batches(rows, range(count), 0, 0, 500, True) if counts
            )
        )

    def dealt_to_a_multiple(count: int) -> list[int]:
        world = int(os.environ["WORLD_SIZE"])
        return dealt(count // world * world)

    def check(deal: Callable[[int], list[int]]) -> None:
        for world in (1, 2, 5, 8):
            monkeypatch.setenv("WORLD_SIZE", str(world))
            counted: list[int] = []
            for rank in range(world):
                monkeypatch.setenv("RANK", str(rank))
                counted += deal(11)
            assert sorted(counted) == list(range(11))

    tell_apart(check, dealt, dealt_to_a_multiple)


def test_fault_10_the_last_label_is_the_end_of_turn(
    encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase
) -> None:
    def answer() -> list[int]:
        [row] = encoder.encode("Judge it.", SUFFIX, "en", [Example("A text.", "yes")], answers=True)
        return row.answer

    def answer_from_the_rendering() -> list[int]:
        turns = [{"role": "user", "content": "A text."}, {"role": "assistant", "content": "yes"}]
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
        return tokenizer(text[text.rindex("yes") :])["input_ids"]

    def check(labels: Callable[[], list[int]]) -> None:
        assert tokenizer.decode(labels()) == "yes<|im_end|>"

    tell_apart(check, answer, answer_from_the_rendering)


def test_fault_11_a_row_is_tokenised_once_and_rendered_never(
    encoder: PromptEncoder,
    tokenizer: PreTrainedTokenizerBase,
    examples: list[Example],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode() -> None:
        encoder.encode("Judge it.", SUFFIX, "en", examples, answers=True)

    def encode_row_by_row() -> None:
        for example in examples:
            turn = [{"role": "user", "content": user_turn("Judge it.", example.sentence, SUFFIX, "en")}]
            prompt = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
            whole = tokenizer.apply_chat_template(
                [*turn, {"role": "assistant", "content": example.label}], tokenize=False
            )
            for text in (prompt, str(whole), example.label):
                tokenizer(text)

    def check(encoding: Callable[[], None]) -> None:
        texts, renderings = [], []
        kind = type(tokenizer)
        call, render = kind.__call__, kind.apply_chat_template
        with monkeypatch.context() as patch:
            patch.setattr(
                kind,
                "__call__",
                lambda self, text, **kw: (
                    texts.extend([text] if isinstance(text, str) else text),
                    call(self, text, **kw),
                )[1],
            )
            patch.setattr(
                kind,
                "apply_chat_template",
                lambda self, turns, **kw: (renderings.append(turns), render(self, turns, **kw))[1],
            )
            encoding()
        assert len(texts) <= 2 * len(examples)  # the user's turn and the label
        assert not renderings

    tell_apart(check, encode, encode_row_by_row)


def test_fault_12_a_long_text_costs_neither_suffix_nor_answer(
    encoder: PromptEncoder, tokenizer: PreTrainedTokenizerBase
) -> None:
    example = Example("word " * 500, "yes")

    def encode() -> tuple[list[int], list[int]]:
        [row] = encoder.encode("Judge it.", SUFFIX, "en", [example], answers=True)
        return row.prompt, row.answer

    def truncated_on_the_right() -> tuple[list[int], list[int]]:
        [row] = PromptEncoder(tokenizer, 10_000, {}).encode(
            "Judge it.", SUFFIX, "en", [example], answers=True
        )
        whole = (row.prompt + row.answer)[: encoder.max_tokens]
        return whole[: len(row.prompt)], whole[len(row.prompt) :]

    def check(encoding: Callable[[], tuple[list[int], list[int]]]) -> None:
        prompt, answer = encoding()
        assert len(prompt) <= encoder.max_tokens
        assert tokenizer.decode(prompt).endswith(f"\n\n{SUFFIX}{TAIL}")
        assert tokenizer.decode(answer) == "yes<|im_end|>"

    tell_apart(check, encode, truncated_on_the_right)


def test_fault_13_a_blank_line_before_any_suffix() -> None:
    def joined_by_length(instruction: str, sentence: str, suffix: str, language: str) -> str:
        return f"{instruction}\n\nText:\n{sentence}" + "\n\n"[: len(suffix)] + suffix

    def check(join: Callable[[str, str, str, str], str]) -> None:
        for suffix, ending in (("Answer:", "\n\nAnswer:"), ("?", "\n\n?"), ("", "")):
            assert join("Judge it.", "A text.", suffix, "en") == f"Judge it.\n\nText:\nA text.{ending}"

    tell_apart(check, user_turn, joined_by_length)
