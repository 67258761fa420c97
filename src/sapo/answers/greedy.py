"""Greedy answers: the shared prefix runs once, and a row leaves the batch when it has finished."""

from collections.abc import Sequence
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_left
from tqdm import tqdm
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from sapo.models.devices import is_sharded, sum_over_processes
from sapo.prompts.batches import batches, my_batches
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import Prefix, expand, last_positions, make_batch, run_prefix
from sapo.prompts.sharing import keeps_every_token, shared_length, tokens_at_a_time
from sapo.runtime.errors import DataError
from sapo.runtime.processes import is_main, process_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Of B rows: cache, next token (B,), mask (B, T), last position (B, 1)
Reading = tuple[DynamicCache, Tensor, Tensor, Tensor]


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
    """Greedy continuations of the rows' prompts, in the rows' order.

    Each has at most `max_new_tokens` ids, without its stop token. `batch_tokens` bounds the padded tokens,
    prompts and answers to come, of the rows that run at a time.
    """
    answers: list[list[int]] = [[] for _ in rows]
    prefix = shared_length(model, rows, room=max_new_tokens)
    shared = run_prefix(model, rows[0].prompt[:prefix])
    own = keeps_every_token(model.config)
    batch_tokens = tokens_at_a_time(model.config, batch_tokens)
    mine = my_batches(rows, range(len(rows)), prefix, max_new_tokens, batch_tokens, is_sharded(model))
    for batch, counts in tqdm(mine, desc=title, unit="batch", disable=not is_main()):
        prompts = [rows[index] for index in batch]
        if own:
            found = _continue(model, prompts, prefix, shared, stop, pad, max_new_tokens, batch_tokens)
        else:
            found = _as_transformers(model, prompts, stop, pad, max_new_tokens)
        if counts:
            for index, answer in zip(batch, found, strict=True):
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
    batch_tokens: int,
) -> list[list[int]]:
    """One batch: a token at a time, until every row has stopped (on a sharded model: in every process).

    The prompts are read in batches of similar length, which pad little; their rows then go on together, since
    a pass for one more token costs about the same for few rows as for many.
    """
    answers: list[list[int]] = [[] for _ in rows]
    lockstep = is_sharded(model)
    order = [list(range(len(rows)))] if lockstep else batches(rows, range(len(rows)), prefix, 0, batch_tokens)
    alive = list(chain.from_iterable(order))
    cache, chosen, mask, positions = _together(
        [_read(model, [rows[i] for i in batch], prefix, shared, pad) for batch in order]
    )
    for step in range(max_new_tokens):
        tokens = chosen.tolist()
        going = [place for place, row in enumerate(alive) if row >= 0 and tokens[place] not in stop]
        for place in going:
            answers[alive[place]].append(tokens[place])
        others = lockstep and bool(sum_over_processes(torch.tensor(len(going), device=model.device)) > 0)
        if step + 1 == max_new_tokens or not (going or others):
            break
        # -1: nothing left here, but others wait for this process's passes
        alive = [alive[place] for place in going] or [-1]
        if len(alive) < len(tokens):
            keep = torch.tensor(going or [0], device=model.device)
            cache.batch_select_indices(keep)
            chosen, mask, positions = chosen[keep], mask[keep], positions[keep]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        positions = positions + 1
        cache, chosen = _next(model, chosen[:, None], mask, positions, cache)
    return answers


def _as_transformers(
    model: "PreTrainedModel", rows: Sequence[Encoded], stop: set[int], pad: int, max_new_tokens: int
) -> list[list[int]]:
    """One batch by transformers' own generation, for models whose cache is more than keys and values."""
    batch = make_batch(rows, 0, pad, model.device)
    # Not the model's own settings: these may sample, or punish repetition
    greedy = GenerationConfig(max_new_tokens=max_new_tokens, eos_token_id=sorted(stop), pad_token_id=pad)
    model.generation_config = greedy
    generate_as_told: Any = model.generate  # its stubs take it for a tensor
    found: Tensor = generate_as_told(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        generation_config=greedy,
        logits_processor=LogitsProcessorList([_checked]),
        synced_gpus=is_sharded(model),
    )
    answers = found[:, batch.input_ids.shape[1] :].tolist()
    return [list(takewhile(lambda token: token not in stop, answer)) for answer in answers]


def _checked(_: Tensor, scores: Tensor) -> Tensor:
    """The scores of the next tokens.

    Raises DataError where a model says nothing: of NaN some token would be taken for the most likely one.
    """
    if scores.isnan().any():
        raise DataError(
            "the model's answers are not a number (NaN): its weights or model.dtype cannot be used"
        )
    return scores


def _next(
    model: "PreTrainedModel",
    ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    cache: DynamicCache | None,
    check: bool = False,
) -> tuple[DynamicCache, Tensor]:
    """One pass over ids (B, L): the cache with them, and each row's most likely next token (B,)."""
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=last_positions(ids, 1),
    )
    logits = output.logits[:, -1]
    return output.past_key_values, (_checked(ids, logits) if check else logits).argmax(-1)


def _read(
    model: "PreTrainedModel", rows: Sequence[Encoded], prefix: int, shared: Prefix | None, pad: int
) -> Reading:
    batch = make_batch(rows, prefix, pad, model.device)
    cache, chosen = _next(
        model,
        batch.input_ids,
        batch.attention_mask,
        batch.position_ids,
        expand(shared, len(rows)) or DynamicCache(),
        True,
    )
    return cache, chosen, batch.attention_mask, batch.position_ids[:, -1:]


def _together(parts: Sequence[Reading]) -> Reading:
    """The parts' rows as one batch, the shorter ones padded on the left."""
    if len(parts) == 1:
        return parts[0]
    longest = max(mask.shape[1] for _, _, mask, _ in parts)

    def joined(tensors: Sequence[Tensor]) -> Tensor:  # each (B, heads, T, size)
        return torch.cat([pad_left(t, (0, 0, longest - t.shape[2], 0)) for t in tensors])

    layers = zip(*(cache.layers for cache, _, _, _ in parts), strict=True)
    cache = DynamicCache(
        [(joined([one.keys for one in layer]), joined([one.values for one in layer])) for layer in layers]
    )
    chosen = torch.cat([chosen for _, chosen, _, _ in parts])
    mask = torch.cat([pad_left(mask, (longest - mask.shape[1], 0)) for _, _, mask, _ in parts])
    return cache, chosen, mask, torch.cat([positions for _, _, _, positions in parts])


def _gathered(answers: list[list[int]], max_new_tokens: int, device: torch.device) -> list[list[int]]:
    """The answers of all processes: each row was answered by one, which alone has written to it."""
    if process_count() == 1:
        return answers
    table = torch.zeros(len(answers), max_new_tokens, dtype=torch.long, device=device)
    for row, answer in enumerate(answers):
        # 0: no token
        table[row, : len(answer)] = torch.tensor([token + 1 for token in answer], device=device)
    return [[token - 1 for token in row if token] for row in sum_over_processes(table).tolist()]
