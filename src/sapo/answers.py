"""Greedy answers: the shared prefix runs once, and a row leaves the batch when it has finished."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from sapo.prefix import expand, make_batch, prefix_length, run_prefix
from sapo.prompts import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def generate(
    model: "PreTrainedModel", rows: Sequence[Encoded], stop: set[int], pad: int, max_new_tokens: int, batch_size: int, title: str
) -> list[list[int]]:
    """Greedy continuations of the rows' prompts, in the rows' order, each at most `max_new_tokens` ids without its stop token."""
    answers: list[list[int]] = [[] for _ in rows]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].prompt))
    prefix = prefix_length(rows)
    prefix_cache = None
    for start in tqdm(range(0, len(order), batch_size), desc=title, unit="batch"):
        alive = order[start : start + batch_size]
        batch = make_batch([rows[index] for index in alive], prefix, pad, model.device)
        prefix_cache = prefix_cache or run_prefix(model, batch.prefix_ids)
        cache = expand(prefix_cache, len(alive))
        ids, mask, positions = batch.input_ids, batch.attention_mask, batch.position_ids
        for step in range(max_new_tokens):
            logits = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            chosen = logits.argmax(-1)
            going = [i for i, token in enumerate(chosen.tolist()) if token not in stop]
            for i in going:
                answers[alive[i]].append(int(chosen[i]))
            if not going or step + 1 == max_new_tokens:
                break
            if len(going) < len(alive):
                keep = torch.tensor(going, device=model.device)
                cache.batch_select_indices(keep)
                chosen, mask, positions = chosen[keep], mask[keep], positions[keep]
                alive = [alive[i] for i in going]
            ids = chosen[:, None]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            positions = positions[:, -1:] + 1
    return answers
