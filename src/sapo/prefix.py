"""Batches whose rows share their first tokens: the common instruction runs once, its keys and values serve all rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from sapo.prompts import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """B rows behind a prefix of P tokens. What follows it is padded on the left to L, answers on their left to K.

    input_ids, position_ids: (B, L). attention_mask: (B, P + L). labels: (B, K), IGNORED where padded.
    """

    prefix_ids: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor


def prefix_length(rows: Sequence[Encoded]) -> int:
    """How many leading prompt tokens all rows share, leaving each row at least one prompt token of its own."""
    first, last = min(row.prompt for row in rows), max(row.prompt for row in rows)
    shortest = min(len(row.prompt) for row in rows) - 1
    for index in range(shortest):
        if first[index] != last[index]:
            return index
    return shortest


def make_batch(rows: Sequence[Encoded], prefix: int, pad: int, device: str | torch.device = "cpu") -> Batch:
    """The rows as tensors, the first `prefix` tokens (at least 1, shared by all) apart from the rest."""
    rests = [[*row.prompt[prefix:], *row.answer] for row in rows]
    length = max(map(len, rests))
    answer_length = max(len(row.answer) for row in rows)
    pads = torch.tensor([length - len(rest) for rest in rests])
    own = torch.arange(length) >= pads[:, None]
    return Batch(
        prefix_ids=torch.tensor([rows[0].prompt[:prefix]], device=device),
        input_ids=torch.tensor([[pad] * (length - len(rest)) + rest for rest in rests], device=device),
        attention_mask=torch.cat([torch.ones(len(rows), prefix, dtype=torch.bool), own], dim=1).long().to(device),
        position_ids=(prefix + torch.arange(length) - pads[:, None]).clamp(min=prefix).to(device),
        labels=torch.tensor([[IGNORED] * (answer_length - len(row.answer)) + row.answer for row in rows], device=device),
    )


def run_prefix(model: "PreTrainedModel", prefix_ids: Tensor) -> DynamicCache:
    """Keys and values of the shared tokens, prefix_ids: (1, P). Gradients flow where they are enabled."""
    return model(input_ids=prefix_ids, use_cache=True, logits_to_keep=1).past_key_values


def expand(cache: DynamicCache, rows: int) -> DynamicCache:
    """A cache of batch size 1 seen as one of `rows` rows. The given one stays as it is: a forward call changes its own."""
    layers: list[Any] = cache.layers
    return DynamicCache([(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1)) for layer in layers])


def answer_logits(model: "PreTrainedModel", batch: Batch, prefix_cache: DynamicCache) -> Tensor:
    """Logits in float32 that predict the answers' tokens, (B, K, vocabulary); nothing is computed for other positions."""
    output = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        past_key_values=expand(prefix_cache, len(batch.input_ids)),
        use_cache=True,
        logits_to_keep=batch.labels.shape[1] + 1,
    )
    return output.logits[:, :-1].float()


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum of the negative log likelihoods (nats) of all answer tokens."""
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
