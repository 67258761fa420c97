import random
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from sapo.runtime.errors import DataError
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.selection.loss import prompt_loss
from sapo.artifacts.task import Example


def plain_loss(model: PreTrainedModel, rows: list[Encoded]) -> float:
    """The same mean by the shortest road: one row at a time, every position, no cache, no padding."""
    total, tokens = 0.0, 0
    for row in rows:
        ids = torch.tensor([row.prompt + row.answer])
        with torch.no_grad():
            logs = model(input_ids=ids).logits[0].double().log_softmax(-1)
        for offset, token in enumerate(row.answer):
            total -= logs[len(row.prompt) + offset - 1, token].item()
        tokens += len(row.answer)
    return total / tokens


@pytest.fixture
def rows(encoder: PromptEncoder, examples: list[Example]) -> list[Encoded]:
    return encoder.encode("Say whether it is short.", "Answer yes or no.", "en", examples, answers=True)


def test_fault_10_the_loss_is_exact_for_every_batch_tokens_and_order(
    new_model: Callable[[], PreTrainedModel], rows: list[Encoded]
) -> None:
    model = new_model()
    expected = plain_loss(model, rows)
    shuffled = random.Random(3).sample(rows, len(rows))
    for order in (rows, shuffled, rows[::-1]):
        for batch_tokens in (1, 500, 100_000):
            assert prompt_loss(model, order, 0, batch_tokens) == pytest.approx(expected, abs=1e-5)


def test_fault_09_every_row_counts(new_model: Callable[[], PreTrainedModel], rows: list[Encoded]) -> None:
    model = new_model()
    assert prompt_loss(model, rows[:11], 0, 300) == pytest.approx(plain_loss(model, rows[:11]), abs=1e-5)
    assert abs(plain_loss(model, rows[:11]) - plain_loss(model, rows[:8])) > 1e-4


def test_fault_03_another_wording_is_scored_as_another_text(
    new_model: Callable[[], PreTrainedModel], encoder: PromptEncoder, examples: list[Example]
) -> None:
    model = new_model()
    losses = {
        prompt_loss(model, encoder.encode(text, "Answer.", "en", examples, answers=True), 0, 500)
        for text in ("Judge it {x}.", "Judge it {{x}}.", "Judge it.")
    }
    assert len(losses) == 3


def test_a_loss_that_is_not_finite_is_an_error(new_model: Callable[[], PreTrainedModel], rows: list[Encoded]) -> None:
    model = new_model()
    torch.nn.init.constant_(model.get_input_embeddings().weight, float("nan"))
    with pytest.raises(DataError, match="loss is nan"):
        prompt_loss(model, rows, 0, 500)
    with pytest.raises(DataError, match="at least one row"):
        prompt_loss(model, [], 0, 500)


def test_fault_11_logits_are_computed_at_answer_positions_only(
    new_model: Callable[[], PreTrainedModel], rows: list[Encoded]
) -> None:
    model = new_model()
    positions: list[int] = []
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: positions.append(inputs[0][..., 0].numel()))
    longest = max(len(row.answer) for row in rows)
    prompt_loss(model, rows, 0, 100_000)
    assert positions == [1, len(rows) * longest]  # the prefix once, then the answers of one batch
