"""Greedy answers: the shared prefix runs once, and a row leaves the batch when it has finished."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from sapo.parallel import is_main, is_sharded, sum_over_ranks, world
from sapo.pieces import my_pieces
from sapo.prefix import Prefix, expand, last_positions, make_batch, prefix_length, run_prefix
from sapo.prompts import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def generate(
    model: "PreTrainedModel",
    rows: Sequence[Encoded],
    stop: set[int],
    pad: int,
    max_new_tokens: int,
    batch_tokens: int,
    title: str,
) -> list[list[int]]:
    """Greedy continuations of the rows' prompts, in the rows' order, each at most `max_new_tokens` ids without its stop token.

    `batch_tokens` bounds the padded tokens, prompts and answers to come, of the rows that run at a time.
    """
    answers: list[list[int]] = [[] for _ in rows]
    prefix, lockstep = prefix_length(rows), is_sharded(model)
    shared = run_prefix(model, rows[0].prompt[:prefix])
    mine = my_pieces(rows, range(len(rows)), prefix, max_new_tokens, batch_tokens, lockstep)
    for piece, counts in tqdm(mine, desc=title, unit="batch", disable=not is_main()):
        found = _continue(model, [rows[index] for index in piece], prefix, shared, stop, pad, max_new_tokens, lockstep)
        if counts:
            for index, answer in zip(piece, found, strict=True):
                answers[index] = answer
    return _gathered(answers, max_new_tokens, model.device)


def _continue(
    model: "PreTrainedModel",
    rows: Sequence[Encoded],
    prefix: int,
    shared: Prefix | None,
    stop: set[int],
    pad: int,
    max_new_tokens: int,
    lockstep: bool,
) -> list[list[int]]:
    """One batch: a token at a time, until every row has stopped (in lockstep: every row of every process)."""
    answers: list[list[int]] = [[] for _ in rows]
    batch = make_batch(rows, prefix, pad, model.device)
    alive = list(range(len(rows)))
    cache = expand(shared, len(rows))
    ids, mask, positions = batch.input_ids, batch.attention_mask, batch.position_ids
    for step in range(max_new_tokens):
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=last_positions(ids, 1),
        )
        cache, chosen = output.past_key_values, output.logits[:, -1].argmax(-1)
        tokens = chosen.tolist()
        going = [place for place, row in enumerate(alive) if row >= 0 and tokens[place] not in stop]
        for place in going:
            answers[alive[place]].append(tokens[place])
        others = lockstep and bool(sum_over_ranks(torch.tensor(len(going), device=model.device)) > 0)
        if step + 1 == max_new_tokens or not (going or others):
            break
        alive = [alive[place] for place in going] or [-1]  # -1: nothing left here, but others wait for this process's passes
        if len(alive) < len(tokens):
            keep = torch.tensor(going or [0], device=model.device)
            cache.batch_select_indices(keep)
            chosen, mask, positions = chosen[keep], mask[keep], positions[keep]
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return answers


def _gathered(answers: list[list[int]], max_new_tokens: int, device: torch.device) -> list[list[int]]:
    """The answers of all processes: each row was answered by one, which alone has written to it."""
    if world() == 1:
        return answers
    table = torch.zeros(len(answers), max_new_tokens, dtype=torch.long, device=device)
    for row, answer in enumerate(answers):
        table[row, : len(answer)] = torch.tensor([token + 1 for token in answer], device=device)  # 0: no token
    return [[token - 1 for token in row if token] for row in sum_over_ranks(table).tolist()]
