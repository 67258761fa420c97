"""The loss of a prompt: how well the model, as it is now, predicts the answers of a task's rows under it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sapo.files import DataError
from sapo.prefix import answer_logits, answer_loss, make_batch, prefix_length, run_prefix
from sapo.prompts import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def prompt_loss(model: "PreTrainedModel", rows: Sequence[Encoded], pad: int, batch_size: int) -> float:
    """The mean negative log likelihood (nats a token) over all answer tokens, end of turn included, of all rows.

    Exact: every token weighs the same, sums are in float64, so neither the batch size nor the rows' order matters
    beyond rounding. Raises DataError for no rows or a result that is not finite.
    """
    if not rows:
        raise DataError("a prompt's loss needs at least one row")
    prefix = prefix_length(rows)
    cache = None
    total, tokens = 0.0, 0
    by_length = sorted(rows, key=lambda row: len(row.prompt) + len(row.answer))
    for start in range(0, len(rows), batch_size):
        batch = make_batch(by_length[start : start + batch_size], prefix, pad, model.device)
        cache = cache or run_prefix(model, batch.prefix_ids)
        total += answer_loss(answer_logits(model, batch, cache), batch.labels).double().item()
        tokens += sum(len(row.answer) for row in by_length[start : start + batch_size])
    loss = total / tokens
    if not torch.isfinite(torch.tensor(loss)):
        raise DataError(f"a prompt's loss is {loss}: the model's weights or dtype cannot be used for scoring")
    return loss
