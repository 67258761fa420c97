"""Greedy answers, and how likely the right ones are, from one reading of the prompts.

The shared prefix runs once, and a row leaves the batch when it has finished.
"""

from collections.abc import Sequence
from itertools import chain, takewhile
from math import nan
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from sapo.answers.likelihood import gathered, log_likelihoods, read_again
from sapo.models.devices import is_sharded, sum_over_processes
from sapo.prompts.batches import batches, my_batches
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import Prefix, expand, last_positions, make_batch, run_prefix
from sapo.prompts.sharing import keeps_every_token, shared_length, tokens_at_a_time
from sapo.runtime.errors import DataError
from sapo.runtime.processes import process_count
from sapo.runtime.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Answers = list[list[int]]  # each row's new tokens, without its stop token
# Of B prompts padded on the left to T: each layer's keys and values, (B, heads, T, size), the next token
# (B,), and the log-likelihoods of the right answers
Reading = tuple[list[tuple[Tensor, Tensor]], Tensor, list[float]]


def generate(
    model: "PreTrainedModel",
    rows: Sequence[Encoded],
    stop: set[int],
    pad: int,
    max_new_tokens: int,
    batch_tokens: int,
    title: str,
) -> Answers:
    """Greedy continuations of the rows' prompts, in the rows' order; their answers are not looked at.

    Each has at most `max_new_tokens` ids. `batch_tokens` bounds the padded tokens, prompts and answers to
    come, of the rows that run at a time.
    """
    prompts = [Encoded(row.prompt, []) for row in rows]
    return answer(model, prompts, stop, pad, max_new_tokens, batch_tokens, title)[0]


@torch.no_grad()
def answer(
    model: "PreTrainedModel",
    rows: Sequence[Encoded],
    stop: set[int],
    pad: int,
    max_new_tokens: int,
    batch_tokens: int,
    title: str,
) -> tuple[Answers, list[float]]:
    """As `generate`, and the log-likelihood of each row's answer: the right one, with its end of turn.

    That is its mean log-probability, nats a token (NaN for a row without an answer). It counts whole, however
    long it is.
    """
    answers: Answers = [[] for _ in rows]
    likelihoods: list[float | None] = [None for _ in rows]
    prefix = shared_length(model, rows, room=max_new_tokens)
    shared = run_prefix(model, rows[0].prompt[:prefix])
    own, lockstep = keeps_every_token(model.config), is_sharded(model)
    batch_tokens = tokens_at_a_time(model.config, batch_tokens)
    # What a row needs beside its prompt is the longer of its two answers. The logits of right answers are
    # bounded where these are read: in batches of their own, in lockstep all at once
    sizes = rows if lockstep else [Encoded([*row.prompt, *row.answer[max_new_tokens:]], []) for row in rows]
    mine = my_batches(sizes, range(len(rows)), prefix, max_new_tokens, batch_tokens, lockstep)
    with progress(title, len(rows), "row") as bar:
        for number, (batch, counts) in enumerate(mine):
            asked = [rows[index] for index in batch]
            if own:
                found = _continue(model, asked, prefix, shared, stop, pad, max_new_tokens, batch_tokens)
            else:
                found = (
                    _as_transformers(model, asked, stop, pad, max_new_tokens),
                    read_again(model, asked, pad, batch_tokens) if asked[0].answer else [nan] * len(asked),
                )
            if counts:
                for index, new, likelihood in zip(batch, *found, strict=True):
                    answers[index], likelihoods[index] = new, likelihood
            # Of several processes each has a share of the batches: the bar shows all rows
            bar.update(len(rows) * (number + 1) // len(mine) - len(rows) * number // len(mine))
    return _gathered(answers, max_new_tokens, model.device), gathered(likelihoods, model.device)


def _continue(
    model: "PreTrainedModel",
    rows: Sequence[Encoded],
    prefix: int,
    shared: Prefix | None,
    stop: set[int],
    pad: int,
    max_new_tokens: int,
    batch_tokens: int,
) -> tuple[Answers, list[float]]:
    """One batch: a token at a time, until every row has stopped (on a sharded model: in every process).

    Prompts and right answers are read in batches of similar length, which pad little; the rows then go on
    together, since a pass for one more token costs about the same for few rows as for many.
    """
    answers: Answers = [[] for _ in rows]
    likelihoods = [nan] * len(rows)
    lockstep = is_sharded(model)
    order = [list(range(len(rows)))] if lockstep else batches(rows, range(len(rows)), prefix, 0, batch_tokens)
    alive = list(chain.from_iterable(order))
    lengths = torch.tensor([[len(rows[index].prompt)] for index in alive], device=model.device)
    longest = int(lengths.max())
    parts: list[Reading] = []
    for batch in order:
        parts.append(_read(model, [rows[index] for index in batch], prefix, shared, pad, longest))
        for index, likelihood in zip(batch, parts[-1][2], strict=True):
            likelihoods[index] = likelihood
    cache, chosen = _together(parts)
    del parts
    mask = (torch.arange(longest, device=model.device) >= longest - lengths).long()
    positions = lengths - 1
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
        cache, logits = _pass(model, chosen[:, None], mask, positions, cache, 1)
        chosen = logits[:, -1].argmax(-1)
    return answers, likelihoods


def _as_transformers(
    model: "PreTrainedModel", rows: Sequence[Encoded], stop: set[int], pad: int, max_new_tokens: int
) -> Answers:
    """One batch by transformers' own generation, for models whose cache is more than keys and values."""
    batch = make_batch([Encoded(row.prompt, []) for row in rows], 0, pad, model.device)
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


def _pass(
    model: "PreTrainedModel", ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache, count: int
) -> tuple[DynamicCache, Tensor]:
    """One pass over ids (B, L): the cache with them, and the last `count` logits (B, count, vocabulary)."""
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=last_positions(ids, count),
    )
    return output.past_key_values, output.logits


def _read(
    model: "PreTrainedModel",
    rows: Sequence[Encoded],
    prefix: int,
    shared: Prefix | None,
    pad: int,
    longest: int,
) -> Reading:
    """Prompts and right answers in one pass; of its keys and values those of the prompts are kept.

    longest: what the prompts are padded to.
    """
    batch = make_batch(rows, prefix, pad, model.device)
    cache, logits = _pass(
        model,
        batch.input_ids,
        batch.attention_mask,
        batch.position_ids,
        expand(shared, len(rows)) or DynamicCache(),
        max(batch.labels.shape[1], 1),
    )
    answered = torch.tensor([max(len(row.answer) - 1, 0) for row in rows], device=model.device)
    first = logits[torch.arange(len(rows), device=model.device), logits.shape[1] - 1 - answered]
    chosen = _checked(batch.input_ids, first).argmax(-1)
    likelihoods = log_likelihoods(logits[:, : batch.labels.shape[1]].float(), batch.labels)

    # Where in the cache each prompt is: its prefix, then its own part, right before its answer
    lengths = torch.tensor([[len(row.prompt)] for row in rows], device=model.device)
    tokens = torch.arange(longest, device=model.device) - (longest - lengths)  # by number; below 0: padding
    behind = batch.attention_mask.shape[1] - answered[:, None] - lengths
    places = torch.where(tokens < prefix, tokens.clamp(min=0), tokens + behind)
    layers: Any = cache.layers
    kept = [(_taken(layer.keys, places), _taken(layer.values, places)) for layer in layers]
    return kept, chosen, likelihoods


def _taken(tensor: Tensor, places: Tensor) -> Tensor:
    """Of a tensor (B, heads, T, size) each row's `places` (B, L): (B, heads, L, size)."""
    rows, heads, length, size = tensor.shape
    starts = torch.arange(rows * heads, device=tensor.device).view(rows, heads, 1) * length
    flat = (starts + places[:, None]).flatten()
    return tensor.reshape(-1, size).index_select(0, flat).view(rows, heads, -1, size)


def _together(parts: Sequence[Reading]) -> tuple[DynamicCache, Tensor]:
    """Cache and next tokens (B,) of all the parts' rows."""
    layers = zip(*(layers for layers, _, _ in parts), strict=True)
    cache = DynamicCache(
        [
            (torch.cat([keys for keys, _ in layer]), torch.cat([values for _, values in layer]))
            for layer in layers
        ]
    )
    return cache, torch.cat([chosen for _, chosen, _ in parts])


def _gathered(answers: Answers, max_new_tokens: int, device: torch.device) -> Answers:
    """The answers of all processes: each row was answered by one, which alone has written to it."""
    if process_count() == 1:
        return answers
    table = torch.zeros(len(answers), max_new_tokens, dtype=torch.long, device=device)
    for row, answer in enumerate(answers):
        # 0: no token
        table[row, : len(answer)] = torch.tensor([token + 1 for token in answer], device=device)
    return [[token - 1 for token in row if token] for row in sum_over_processes(table).tolist()]
