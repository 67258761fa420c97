"""The losses of a task's rows under one prompt, against the plainest way: whole single rows."""

import random
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from sapo.prompts.encoder import Encoded
from sapo.runtime.errors import DataError
from sapo.selection.loss import RowLosses


def plain_losses(model: PreTrainedModel, rows: list[Encoded]) -> list[float]:
    """Each row's summed loss by the shortest road: every position, no cache, no padding."""
    losses = []
    for row in rows:
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([row.prompt + row.answer])).logits[0].double().log_softmax(-1)
        places = enumerate(row.answer, start=len(row.prompt) - 1)
        losses.append(-sum(logs[place, token].item() for place, token in places))
    return losses


def test_fault_10_losses_are_exact_for_every_batch_tokens_and_order(
    new_model: Callable[[], PreTrainedModel], rows: list[Encoded]
) -> None:
    model = new_model()
    expected = plain_losses(model, rows)
    for batch_tokens in (1, 500, 100_000):
        losses = RowLosses(model, rows, 0, batch_tokens)
        for order in (range(12), random.Random(3).sample(range(12), 12), [7], [11, 2]):
            assert losses(order) == pytest.approx([expected[index] for index in order], abs=1e-4)


def test_a_loss_that_is_not_finite_is_an_error(
    new_model: Callable[[], PreTrainedModel], rows: list[Encoded]
) -> None:
    model = new_model()
    torch.nn.init.constant_(model.get_input_embeddings().weight, float("nan"))
    with pytest.raises(DataError, match="loss is nan"):
        RowLosses(model, rows, 0, 500)(range(len(rows)))
    with pytest.raises(DataError, match="at least one row"):
        RowLosses(model, [], 0, 500)


def test_fault_11_logits_are_computed_at_answer_positions_only(
    new_model: Callable[[], PreTrainedModel], rows: list[Encoded]
) -> None:
    model = new_model()
    positions: list[int] = []
    model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: positions.append(inputs[0][..., 0].numel())
    )
    longest = max(len(row.answer) for row in rows)
    RowLosses(model, rows, 0, 100_000)(range(len(rows)))
    assert positions == [1, len(rows) * longest]  # the prefix once, then the answers of one batch
