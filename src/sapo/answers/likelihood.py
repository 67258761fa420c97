"""How likely the right answer is: its mean log-probability (nats a token) under the prompt."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sapo.models.devices import is_sharded, sum_over_processes
from sapo.prompts.batches import batches
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import IGNORED, answer_logits, answer_losses, make_batch
from sapo.runtime.processes import process_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def log_likelihoods(logits: Tensor, labels: Tensor) -> list[float]:
    """Each row's mean log-probability of its labels (B, K), teacher-forced, nats a token.

    logits: float32, (B, K, vocabulary). NaN for a row whose labels are all IGNORED.
    """
    return (-answer_losses(logits, labels) / (labels != IGNORED).sum(dim=1)).tolist()


@torch.no_grad()
def read_again(model: "PreTrainedModel", rows: Sequence[Encoded], pad: int, batch_tokens: int) -> list[float]:
    """The log-likelihoods of the rows' answers by plain forward passes over prompts and answers.

    For models whose answers come from transformers' own generation, which keeps nothing of the prompt.
    """
    everything = [list(range(len(rows)))]  # every process of a sharded model makes the same number of passes
    order = everything if is_sharded(model) else batches(rows, everything[0], 0, 0, batch_tokens)
    found = [math.nan] * len(rows)
    for batch in order:
        tensors = make_batch([rows[index] for index in batch], 0, pad, model.device)
        values = log_likelihoods(answer_logits(model, tensors, None), tensors.labels)
        for index, value in zip(batch, values, strict=True):
            found[index] = value
    return found


def gathered(found: Sequence[float | None], device: torch.device) -> list[float]:
    """The log-likelihoods of all processes; None: a row of another one. NaN where not exactly one has it."""
    if process_count() == 1:
        return [math.nan if value is None else value for value in found]
    table = torch.tensor([[0.0, 0.0] if value is None else [value, 1.0] for value in found], device=device)
    return [value if count == 1 else math.nan for value, count in sum_over_processes(table).tolist()]
