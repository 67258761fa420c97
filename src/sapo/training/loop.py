"""Training one task's LoRA: loss on answer tokens behind a shared prefix, plus O-LoRA's term.

A loop of our own, because a step's rows run in batches bounded in tokens whose common prefix is computed
once, with gradients. Optimiser and clipping are those of torch, schedules see `schedule`.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sapo.artifacts.lineage import Step
from sapo.config import Train
from sapo.models.devices import decoder_layers, is_sharded, sum_over_processes
from sapo.prompts.batches import my_batches
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import (
    answer_logits,
    answer_losses,
    backward_through,
    detached,
    make_batch,
    prefix_length,
    run_prefix,
)
from sapo.prompts.sharing import shared_length, tokens_at_a_time
from sapo.runtime.errors import DataError
from sapo.runtime.processes import is_main, process_count
from sapo.runtime.progress import progress
from sapo.training.checkpoints import Checkpoints
from sapo.training.dropout import Draws
from sapo.training.new_lora import orthogonal_penalty
from sapo.training.schedule import learning_rates

PAYS = 64  # tokens saved a step from which a pass of its own for the prefix pays
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """PEFT's state dict of the new LoRA, and every optimiser step."""

    state: dict[str, Tensor]
    history: list[Step]


def train_task(
    model: PeftModel,
    rows: Sequence[Encoded],
    *,
    train: Train,
    seed: int,
    pad: int,
    checkpoints: Path,
    earlier_a: Mapping[str, Tensor] | None = None,
    orthogonal_weight: float = 0.0,
    report: Callable[[Sequence[Step]], None] = lambda history: None,
) -> Trained:
    """Train the new LoRA in place, from the last checkpoint in `checkpoints` where there is one.

    earlier_a: see `orthogonal_penalty`; without any, or with weight 0, there is no such term. report: gets
    the history at the start and after each step. The caller removes `checkpoints` when it has saved the
    result. Raises DataError for no rows or a loss that is not finite.
    """
    if not rows:
        raise DataError("a task needs at least one training row")
    base: Any = model.get_base_model()
    prefix, reason = shared_prefix(rows, shared_length(base, rows), train, is_sharded(model))
    logger.info("training: %s", reason)
    batch_tokens = tokens_at_a_time(base.config, train.batch_tokens)
    model.eval()  # what a model's own configuration would drop is never dropped, what the LoRA drops is
    draws = Draws(model, seed, prefix_length(rows))
    # transformers' own would need the model in training mode
    recomputed = decoder_layers(model) if train.gradient_checkpointing else []
    for layer in recomputed:
        again = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
        layer.forward = again

    steps = step_rows(len(rows), train.epochs, train.batch_size, seed)
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=train.learning_rate, weight_decay=0.0, fused=True)
    rates = learning_rates(train, len(steps))
    term = Orthogonal(model, earlier_a or {}, orthogonal_weight)

    saved = Checkpoints(checkpoints, parameters, optimizer)
    history = saved.load()
    if history:
        logger.info("training: goes on from checkpoint-%d of %d steps", len(history), len(steps))
    report(history)
    every = math.ceil(len(steps) / train.checkpoints)

    with progress("training", len(steps), "step", done=len(history)) as bar:
        for numbers in steps[len(history) :]:
            step = len(history) + 1
            for group in optimizer.param_groups:
                group["lr"] = rates[step - 1]
            draws.step = step
            loss = backward(model, rows, numbers, draws, prefix, pad, batch_tokens)
            loss += term.backward()
            if process_count() > 1:
                sum_gradients(list(parameters.values()))
                sum_over_processes(loss)
            if not torch.isfinite(loss):
                raise DataError(
                    f"the training loss is {loss.item()} at step {step}: "
                    "lower train.learning_rate, or set train.dtype=float32"
                )
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), train.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            history.append(
                Step(
                    step=step,
                    loss=loss.item(),
                    grad_norm=norm.item(),
                    learning_rate=rates[step - 1],
                    epoch=step * train.epochs / len(steps),
                )
            )
            report(history)
            bar.note(f"loss {history[-1].loss:.3f}")
            bar.update()
            if step % every == 0 or step == len(steps):
                saved.save(history)
    draws.stop()
    for layer in recomputed:
        del layer.forward  # its class's again
    return Trained(get_peft_model_state_dict(model), history)


def backward(
    model: PeftModel,
    task: Sequence[Encoded],
    numbers: Sequence[int],
    draws: Draws,
    prefix: int,
    pad: int,
    batch_tokens: int,
) -> Tensor:
    """Add this process's share of the gradients of the mean loss of a step, and return its share of the loss.

    numbers: those of the step's rows in `task`. The mean is in nats a token over all their answers.
    """
    rows = [task[number] for number in numbers]
    tokens = sum(len(row.answer) for row in rows)
    lm: Any = model
    loss = torch.zeros((), device=lm.device)
    draws.run_shared()
    shared = run_prefix(lm, rows[0].prompt[:prefix])
    leaves = detached(shared) if shared else None
    for batch, counts in my_batches(rows, range(len(rows)), prefix, 0, batch_tokens, is_sharded(model)):
        together = [rows[index] for index in batch]
        draws.run_batch(together, [numbers[index] for index in batch], prefix)
        tensors = make_batch(together, prefix, pad, lm.device)
        part = answer_losses(answer_logits(lm, tensors, leaves), tensors.labels).sum() / tokens * counts
        part.backward()
        loss += part.detach()
    if shared and leaves:
        backward_through(shared, leaves)
    return loss


class Orthogonal:
    """O-LoRA's term, once a step whatever the number of batches and processes."""

    def __init__(self, model: PeftModel, earlier_a: Mapping[str, Tensor], weight: float) -> None:
        self.model, self.weight, self.device = model, weight, model.device
        wanted = weight and is_main()
        self.earlier_a = {name: a.to(self.device) for name, a in earlier_a.items()} if wanted else {}

    def backward(self) -> Tensor:
        """Add its gradients; its value times its weight, 0 where there is no such term."""
        if not self.earlier_a:
            return torch.zeros((), device=self.device)
        penalty = self.weight * orthogonal_penalty(self.model, self.earlier_a)
        penalty.backward()
        return penalty.detach()


def sum_gradients(trained: Sequence[torch.nn.Parameter]) -> None:
    """Give all processes the sum of their gradients; one that had no row has none."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    flat = sum_over_processes(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, part in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
        parameter.grad = part.view_as(parameter)


def step_rows(rows: int, epochs: int, batch_size: int, seed: int) -> list[list[int]]:
    """The row numbers of each optimiser step: every epoch visits every row once, in an order of its own."""
    steps = []
    for epoch in range(epochs):
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        steps += [order[start : start + batch_size] for start in range(0, rows, batch_size)]
    return steps


def shared_prefix(rows: Sequence[Encoded], exact: int, train: Train, sharded: bool) -> tuple[int, str]:
    """How many leading tokens run once a step for all of its rows, and the reason, for the log.

    exact: how many may, see `shared_length`. They are shared where that saves tokens and can work. Gradients
    are the plain ones to rounding.
    """
    prefix, least = exact, min(train.batch_size, len(rows))
    if train.gradient_checkpointing:
        return 0, "nothing is shared between rows: gradient checkpointing keeps no keys and values"
    if sharded:
        return 0, "nothing is shared between rows: each pass of a sharded model gathers all weights"
    if prefix * (least - 1) < PAYS:
        return (
            0,
            f"nothing is shared between rows: {prefix} common tokens in steps of {least} rows do not pay",
        )
    return prefix, f"the first {prefix} tokens of all rows run once a step, with gradients"
