"""Batches whose rows share their first tokens: these run once, and their keys and values serve all rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from sapo.prompts.encoder import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IGNORED = -100
# Each layer's keys and values of the shared tokens, (1, heads, P, head size)
Prefix = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Batch:
    """B rows behind a prefix of P tokens. The rest is padded on the left to L, answers on their left to K.

    input_ids, position_ids: (B, L), without each answer's last token, which predicts nothing.
    attention_mask: (B, P + L). labels: (B, K), IGNORED where padded; the last K input positions predict them.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor


def prefix_length(rows: Sequence[Encoded]) -> int:
    """How many leading prompt tokens all rows share, leaving each row at least one of its own."""
    first, last = min(row.prompt for row in rows), max(row.prompt for row in rows)
    shortest = min(len(row.prompt) for row in rows) - 1
    for index in range(shortest):
        if first[index] != last[index]:
            return index
    return shortest


def make_batch(rows: Sequence[Encoded], prefix: int, pad: int, device: str | torch.device = "cpu") -> Batch:
    """The rows as tensors, without their first `prefix` tokens (which all share; 0: whole rows)."""
    rests = [[*row.prompt[prefix:], *row.answer[:-1]] for row in rows]
    length = max(map(len, rests))
    answer_length = max(len(row.answer) for row in rows)
    pads = torch.tensor([length - len(rest) for rest in rests])
    own = torch.arange(length) >= pads[:, None]
    batch = {
        "input_ids": torch.tensor([[pad] * (length - len(rest)) + rest for rest in rests]),
        "attention_mask": torch.cat([torch.ones(len(rows), prefix, dtype=torch.bool), own], dim=1).long(),
        "position_ids": (prefix + torch.arange(length) - pads[:, None]).clamp(min=prefix),
        "labels": torch.tensor(
            [[IGNORED] * (answer_length - len(row.answer)) + row.answer for row in rows], dtype=torch.long
        ),
    }
    # From pinned memory a copy does not wait for the kernels before it
    pinned = torch.device(device).type == "cuda"
    return Batch(
        **{n: (t.pin_memory() if pinned else t).to(device, non_blocking=pinned) for n, t in batch.items()}
    )


def run_prefix(model: "PreTrainedModel", shared: Sequence[int]) -> Prefix | None:
    """Keys and values of the shared tokens, None where there are none. Gradients flow where enabled."""
    if not shared:
        return None
    cache: Any = DynamicCache()  # of all tokens: by itself a model with sliding windows keeps the last ones
    model(
        input_ids=torch.tensor([list(shared)], device=model.device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return [(layer.keys, layer.values) for layer in cache.layers]


def detached(prefix: Prefix) -> Prefix:
    """The same keys and values as leaves, which collect the gradients of as many batches as use them."""
    return [(keys.detach().requires_grad_(), values.detach().requires_grad_()) for keys, values in prefix]


def backward_through(prefix: Prefix, leaves: Prefix) -> None:
    """Pass the gradients that `detached(prefix)` has collected on to what the prefix was computed from.

    One backward pass serves them all.
    """
    pairs = zip(chain.from_iterable(prefix), chain.from_iterable(leaves), strict=True)
    used = [(tensor, leaf.grad) for tensor, leaf in pairs if tensor.requires_grad and leaf.grad is not None]
    if used:
        torch.autograd.backward([tensor for tensor, _ in used], [gradient for _, gradient in used])


def expand(prefix: Prefix | None, rows: int) -> DynamicCache | None:
    """A cache of `rows` rows that all begin with the prefix; a forward call changes it, not the prefix."""
    if prefix is None:
        return None
    return DynamicCache(
        [(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in prefix]
    )


def last_positions(input_ids: Tensor, count: int) -> Tensor:
    """The last positions by number.

    Selected this way they lie in one piece of memory, and the output layer's weights are read once instead of
    once a row.
    """
    length = input_ids.shape[1]
    return torch.arange(length - count, length, device=input_ids.device)


def answer_logits(model: "PreTrainedModel", batch: Batch, prefix: Prefix | None) -> Tensor:
    """Float32 logits that predict the answers' tokens, (B, K, vocabulary), and none for other positions."""
    logits: Tensor = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        past_key_values=expand(prefix, len(batch.input_ids)),
        use_cache=prefix is not None,
        logits_to_keep=last_positions(batch.input_ids, max(batch.labels.shape[1], 1)),
    ).logits
    return logits[:, : batch.labels.shape[1]].float()  # rows without any answer keep no position


def answer_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Each row's sum of the negative log likelihoods (nats) of its answer's tokens, (B,)."""
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view(labels.shape).sum(dim=1)
