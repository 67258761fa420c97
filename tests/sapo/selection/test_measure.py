"""What is recorded of every candidate: its mean loss, the rows it was measured on, and its place."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from sapo.artifacts.chosen_prompt import Candidate
from sapo.artifacts.task import Example, Task
from sapo.config import Selection
from sapo.prompts.encoder import PromptEncoder
from sapo.runtime.errors import DataError
from sapo.selection.measure import measure

TEXTS = [
    "Say whether it is short.",
    "Is it short?",
    "Judge the length.",
    "Is it short?",
    "Short or long {x}?",
]
Measure = Callable[..., tuple[int, list[Candidate]]]


@pytest.fixture
def measured(new_model: Callable[[], PreTrainedModel], encoder: PromptEncoder) -> Measure:
    """`measure` of texts on rows under the tiny model."""
    model = new_model()

    def work(
        texts: Sequence[str], examples: Sequence[Example], kind: str = "exhaustive", **changes: Any
    ) -> Any:
        task = Task("t", texts[0], "Answer yes or no.", [], "en", None, {}, list(examples), [])
        settings = Selection(rows=100, batch_tokens=500, search="exhaustive", confidence=0.95)
        return measure(model, encoder, task, texts, settings.model_copy(update=changes), kind)

    return work


def plain_mean(
    model: PreTrainedModel, encoder: PromptEncoder, text: str, examples: Sequence[Example]
) -> float:
    """The mean over all answer tokens by the shortest road: one row at a time, every position, no padding."""
    total, tokens = 0.0, 0
    for row in encoder.encode(text, "Answer yes or no.", "en", examples, answers=True):
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([row.prompt + row.answer])).logits[0].double().log_softmax(-1)
        for offset, token in enumerate(row.answer):
            total -= logs[len(row.prompt) + offset - 1, token].item()
        tokens += len(row.answer)
    return total / tokens


def test_fault_10_the_loss_is_exact_for_every_batch_tokens_and_order(
    measured: Measure,
    new_model: Callable[[], PreTrainedModel],
    encoder: PromptEncoder,
    examples: list[Example],
) -> None:
    expected = plain_mean(new_model(), encoder, TEXTS[0], examples)
    for order in (examples, random.Random(3).sample(examples, len(examples)), examples[::-1]):
        for batch_tokens in (1, 500, 100_000):
            _, [candidate] = measured(TEXTS[:1], order, batch_tokens=batch_tokens)
            assert candidate.loss == pytest.approx(expected, abs=1e-5)


def test_fault_09_every_row_counts_and_no_other(
    measured: Measure,
    new_model: Callable[[], PreTrainedModel],
    encoder: PromptEncoder,
    examples: list[Example],
) -> None:
    model = new_model()
    expected = plain_mean(model, encoder, TEXTS[0], examples[:11])
    _, [candidate] = measured(TEXTS[:1], examples, rows=11, batch_tokens=300)
    assert candidate.loss == pytest.approx(expected, abs=1e-5)
    assert (candidate.rows, candidate.place) == (11, 1)
    for other in (8, 12):
        assert abs(expected - plain_mean(model, encoder, TEXTS[0], examples[:other])) > 1e-4


def test_fault_03_another_wording_is_scored_as_another_text(
    measured: Measure, examples: list[Example]
) -> None:
    _, candidates = measured(["Judge it {x}.", "Judge it {{x}}.", "Judge it."], examples)
    assert len({candidate.loss for candidate in candidates}) == 3


def test_places_sort_the_losses_with_ties_in_order_and_the_best_has_the_first(
    measured: Measure, examples: list[Example]
) -> None:
    best, candidates = measured(TEXTS, examples)
    order = sorted(range(len(TEXTS)), key=lambda number: candidates[number].place or math.inf)
    assert sorted(candidate.place or 0 for candidate in candidates) == [1, 2, 3, 4, 5]
    assert [(candidates[n].loss, n) for n in order] == sorted(
        (one.loss, n) for n, one in enumerate(candidates)
    )
    assert candidates[1].loss == candidates[3].loss  # one text twice: a tie
    assert candidates[best].place == 1
    assert [candidate.instruction for candidate in candidates] == TEXTS
    assert [candidate.original for candidate in candidates] == [True, False, False, False, False]


@pytest.mark.parametrize("kind", ["bounded", "race"])
def test_a_candidate_that_is_not_measured_on_all_rows_has_the_mean_of_its_own_and_no_place(
    new_model: Callable[[], PreTrainedModel], encoder: PromptEncoder, examples: list[Example], kind: str
) -> None:
    model = new_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(40)  # so sure of itself that candidates lie far apart
    many = [  # a third of the rows, with long answers, decides
        Example(f"{example.sentence} again {n}", "y" if n % 3 else "a long answer, " * 9)
        for n, example in enumerate(examples * 4)
    ]
    texts = [*TEXTS, "yes " * 40, "a longer no " * 12, "Tell me the length.", "no? " * 20]
    task = Task("t", texts[0], "Answer yes or no.", [], "en", None, {}, many, [])
    settings = Selection(rows=100, batch_tokens=4000, search="exhaustive", confidence=0.95)
    best, candidates = measure(model, encoder, task, texts, settings, kind)
    _, every = measure(model, encoder, task, texts, settings, "exhaustive")

    dropped = [one for one in candidates if one.rows < 48]
    complete = [number for number, one in enumerate(candidates) if one.rows == 48]
    assert dropped
    assert 0 in complete
    assert all(one.place is None and one.rows >= 16 for one in dropped)
    assert sorted(candidates[number].place or 0 for number in complete) == [*range(1, len(complete) + 1)]
    for number in complete:
        assert candidates[number].loss == pytest.approx(every[number].loss, rel=1e-5)
    if (
        kind == "bounded"
    ):  # exact; and the 16 rows that a candidate begins with are the hardest, the long ones
        assert candidates[best].place == every[best].place == 1
        early = [one for one in dropped if one.rows == 16]
        assert early
        for one in early:
            mean = plain_mean(model, encoder, one.instruction, many[::3])
            assert one.loss == pytest.approx(mean, rel=1e-5)


def test_no_rows_and_a_loss_that_is_not_finite_are_errors(
    measured: Measure,
    new_model: Callable[[], PreTrainedModel],
    encoder: PromptEncoder,
    examples: list[Example],
) -> None:
    with pytest.raises(DataError, match="at least one row"):
        measured(TEXTS, [])
    model = new_model()
    torch.nn.init.constant_(model.get_input_embeddings().weight, float("nan"))
    task = Task("t", "Judge.", "?", [], "en", None, {}, examples, [])
    settings = Selection(rows=12, batch_tokens=500, search="exhaustive", confidence=0.95)
    with pytest.raises(DataError, match="loss is nan"):
        measure(model, encoder, task, ["Judge.", "Weigh."], settings, "exhaustive")
