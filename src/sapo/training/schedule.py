"""The learning rate of each optimiser step: the schedules of transformers, and one of DeepSpeed's."""

import math
from typing import Any

import torch
from transformers import get_scheduler

from sapo.config import Train
from sapo.runtime.errors import DataError


def learning_rates(train: Train, steps: int) -> list[float]:
    """The rate of each of so many steps. Raises DataError where all are 0, or the schedule cannot be made."""
    warmup = train.warmup_steps
    if warmup is None:  # an only step at rate 0 would learn nothing
        warmup = math.ceil(steps * train.warmup_ratio) if steps > 1 else 0
    if train.schedule == "deepspeed_warmup":
        factors = [deepspeed_warmup(step, warmup) for step in range(steps)]
    else:
        optimizer = torch.optim.SGD([torch.zeros(1)], train.learning_rate)  # get_scheduler asks for one
        try:
            schedule: Any = get_scheduler(train.schedule, optimizer, warmup, steps)
        except ValueError as error:
            raise DataError(f"train.schedule = {train.schedule}: {error}") from error
        [factor] = schedule.lr_lambdas
        factors = [factor(step) for step in range(steps)]
    rates = [train.learning_rate * factor for factor in factors]
    if not any(rates):
        raise DataError(
            f"train.schedule = {train.schedule} has learning rate 0 in all steps of this training ({steps}): "
            "raise train.epochs, or lower train.warmup_steps or train.batch_size"
        )
    return rates


def deepspeed_warmup(step: int, warmup: int) -> float:
    """The factor of DeepSpeed's `WarmupLR` from 0 in step 0, 1, ...: log(step) / log(warmup), at most 1.

    DeepSpeed sets the rate after each step: step 0 runs at the lowest rate, and step n at what its formula
    log(i + 1) / log(warmup) gives for i = n - 1, which is 0 again for n = 1. It takes at least 2 for warmup.
    """
    return min(1.0, math.log(max(step, 1)) / math.log(max(warmup, 2)))
