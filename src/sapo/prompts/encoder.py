"""Prompts: the user turn, its chat rendering, its tokens. If one is too long, only the sentence is cut."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from sapo.artifacts.task import Example
from sapo.runtime.errors import DataError
from sapo.runtime.files import sha256_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT_HEADING = {"en": "Text:", "zh": "文本:"}
# How many characters of a text are looked at: so many, or so many for each token that a prompt may have
SEEN = 200_000, 64
DAY = datetime(2024, 7, 26)  # what a template that asks for the date is told; Llama 3's own default
COMMENT, TAG = re.compile(r"\{#.*?#\}", re.DOTALL), re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
CLOCK = re.compile(r"\bstrftime_now\s*\(\s*(['\"])([^'\"]*)\1\s*\)")  # the name that transformers gives it
CHANGING = re.compile(r"\bstrftime_now\b(?!\s+is\s+(?:not\s+)?defined)|\brandom\b|\blipsum\b")
SENTINEL = "\u2042USER\u2042"  # stands for the user's text while the chat template is taken apart
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encoded:
    """Token ids of one prompt, and of its answer with end of turn (empty where one is to be generated)."""

    prompt: list[int]
    answer: list[int]


def user_turn(instruction: str, sentence: str, suffix: str, language: str) -> str:
    """instruction, heading and text, suffix, blank lines between; without a suffix nothing follows the text.

    The parts keep their outer white space, and the blank line after an empty instruction stays: these are the
    prompts of the public implementation.
    """
    end = f"\n\n{suffix}" if suffix.strip() else ""
    return f"{instruction}\n\n{TEXT_HEADING[language]}\n{sentence}{end}"


class PromptEncoder:
    """Renders user turns with the tokenizer's own chat template and encodes them, bounded to `max_tokens`.

    The template's part is encoded with its special tokens; the user's part never is, so that a text that
    happens to spell one (`<|im_end|>`, `<s>`, `<think>`) stays text. The template's plain words next to it
    (`[INST] `) are encoded together with it, so that a tokenizer that puts a space before a text puts none in
    between.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", max_tokens: int, template_options: dict[str, Any]
    ) -> None:
        if not tokenizer.is_fast:
            raise DataError(
                f"the tokenizer ({type(tokenizer).__name__}) does not tell where in a text its tokens are: "
                "choose a model with a tokenizer.json"
            )
        self.tokenizer, self.options = tokenizer, template_options
        self.max_tokens = max_tokens
        template_options = template_options | {"chat_template": self._without_clock(template_options)}
        user = {"role": "user", "content": SENTINEL}
        rendered = self._render([user], template_options | {"add_generation_prompt": True})
        opening, found, closing = rendered.partition(SENTINEL)
        if not found or SENTINEL in closing:
            raise DataError(
                "the model's chat template does not show the user's text exactly once: it cannot be used here"
            )
        added = tokenizer.added_tokens_decoder.values()
        words = [
            re.escape(token.content)
            for token in added
            if not token.special and re.fullmatch("<.+>", token.content)
        ]
        # Control words that the tokenizer would keep whole in any text
        self._spelled = re.compile("|".join(words) or "(?!)")
        last = max((end for _, _, end in self._controls(opening)), default=0)
        first = min((start for _, start, _ in self._controls(closing)), default=len(closing))
        self._opening, self._closing = self._ids(opening[:last]), self._ids(closing[first:])
        self._before, self._after = opening[last:], closing[:first]
        assistant = {"role": "assistant", "content": SENTINEL}
        whole = self._render([user, assistant], template_options)
        after = self._controls(whole.rpartition(SENTINEL)[2])
        end = after[0][0] if after else tokenizer.eos_token_id
        if not isinstance(end, int):
            raise DataError(
                "the model's chat template and tokenizer have no token that ends a turn: choose another model"
            )
        self.end_of_turn: int = end
        # Some templates take outer white space from a turn: so must what is encoded apart from them
        spaced = f"\t{SENTINEL}\t"
        asked = self._render([user | {"content": spaced}], template_options | {"add_generation_prompt": True})
        answered = self._render([user, assistant | {"content": spaced}], template_options)
        self._strips_text, self._strips_answer = spaced not in asked, spaced not in answered

    @property
    def template_sha256(self) -> str:
        """By which a record knows all that the template does to a user's text and an answer."""
        around = [self._opening, self._before, self._after, self._closing, self.end_of_turn]
        return sha256_json([*around, self._strips_text, self._strips_answer])

    def _render(self, messages: list[dict[str, str]], options: dict[str, Any]) -> str:
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options))
        except (TemplateError, TypeError, ValueError) as error:
            raise DataError(
                f"the model's chat template fails with model.template_options = {self.options}: {error}"
            ) from error

    def _without_clock(self, options: Mapping[str, Any]) -> str:
        """The chat template with a fixed date for today's: prompts would differ from day to day.

        Raises DataError where a template asks for what cannot be fixed.
        """
        chosen = options.get("chat_template")
        template = self.tokenizer.get_chat_template(chosen if isinstance(chosen, str) else None)
        fixed, count = CLOCK.subn(lambda call: repr(DAY.strftime(call[2])), template)
        if CHANGING.search(" ".join(TAG.findall(COMMENT.sub("", fixed)))):
            raise DataError(
                "the model's chat template asks for the time or draws at random, so that its prompts change: "
                "give another one as model.template_options.chat_template"
            )
        if count:
            logger.info("the model's chat template asks for the date: it is always told %s", DAY.date())
        return fixed

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _controls(self, text: str) -> list[tuple[int, int, int]]:
        """Id, start and end of every added token (`<|im_end|>`, `<think>`) in the template's own text."""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        special = set(self.tokenizer.added_tokens_decoder)
        found = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [(token, *place) for token, place in found if token in special]

    def _texts(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        encoded = self._apart(list(texts))
        for index, text in enumerate(texts):
            cuts = [found.start() + 1 for found in self._spelled.finditer(text)]
            if cuts:
                parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
                encoded[index] = list(chain.from_iterable(self._apart(parts)))
        return encoded

    def _apart(self, texts: list[str]) -> list[list[int]]:
        return list(self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def _turns(self, turns: Sequence[str]) -> list[list[int]]:
        turns = [turn.strip() for turn in turns] if self._strips_text else turns
        return self._texts([f"{self._before}{turn}{self._after}" for turn in turns])

    def encode(
        self, instruction: str, suffix: str, language: str, examples: Sequence[Example], answers: bool
    ) -> list[Encoded]:
        """One Encoded an example; with `answers`, its label and end of turn too (alone, if that is empty).

        Raises DataError when instruction and suffix leave no room in `max_tokens` for any of a text.
        """
        # Tokenising megabytes takes minutes, and what would fit is near the start
        seen = max(SEEN[0], SEEN[1] * self.max_tokens)
        turns = self._turns(
            [user_turn(instruction, example.sentence[:seen], suffix, language) for example in examples]
        )
        given = [one.label.strip() if self._strips_answer else one.label for one in examples]
        labels = self._texts(given) if answers else [[] for _ in examples]
        rows = []
        for example, turn, label in zip(examples, turns, labels, strict=True):
            if len(self._opening) + len(turn) + len(self._closing) > self.max_tokens:
                turn = self._cut(instruction, suffix, language, example.sentence[:seen])
            answer = [*label, self.end_of_turn] if answers else []
            rows.append(Encoded([*self._opening, *turn, *self._closing], answer))
        return rows

    def begin(self, text: str) -> Encoded:
        """The beginning of a user turn: the template's part as the prompt, the text as what follows it."""
        turn = f"{self._before}{text.strip() if self._strips_text else text}"
        options = {"add_special_tokens": False, "split_special_tokens": True, "return_offsets_mapping": True}
        found = self.tokenizer(turn, **options)
        ids = [*self._opening, *found["input_ids"]]
        before = sum(start < len(self._before) for start, _ in found["offset_mapping"])
        first = max(len(self._opening) + before, 1)
        return Encoded(ids[:first], ids[first:])

    def _cut(self, instruction: str, suffix: str, language: str, sentence: str) -> list[int]:
        """The longest user turn within the bound, `sentence` cut at its end between its tokens."""
        room = self.max_tokens - len(self._opening) - len(self._closing)
        options = {"add_special_tokens": False, "split_special_tokens": True, "return_offsets_mapping": True}
        ends = [end for _, end in self.tokenizer(sentence, **options)["offset_mapping"]]
        keep = len(ends)
        while keep > 0:
            if not (beginning := sentence[: ends[keep - 1]].rstrip()):
                break
            [turn] = self._turns([user_turn(instruction, beginning, suffix, language)])
            if len(turn) <= room:
                return turn
            excess = max(1, len(turn) - room)
            # A word such as <think> is one token here, several in a turn
            keep = keep - excess if keep > excess else keep // 2
        raise DataError(
            f"prompt.max_tokens = {self.max_tokens} leaves no room for any text beside the instruction "
            f"{instruction[:60]!r}: raise it"
        )
