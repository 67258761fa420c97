"""The learning rate of every step, by the published formulas."""

import math
from typing import Any, get_args

import pytest
import torch
from transformers import SchedulerType, get_scheduler

from sapo.config import Schedule, Train
from sapo.runtime.errors import DataError
from sapo.training.schedule import learning_rates

OF_TRANSFORMERS = [name for name in get_args(Schedule) if name != "deepspeed_warmup"]
STEPS = 20


def rates(train: Train, steps: int = STEPS, **changes: Any) -> list[float]:
    return learning_rates(train.model_copy(update=changes), steps)


def warmup_lr(rate: float, warmup: int, steps: int) -> list[float]:
    """As DeepSpeed documents its WarmupLR: the rate that each step of the optimiser runs with.

    The scheduler starts at iteration -1 with the lowest rate; after every step it goes on by one and sets
    min + (max - min) * gamma, gamma = log(iteration + 1) / log(warmup) below warmup, then 1.
    """
    used, iteration, now = [], -1, 0.0
    for _ in range(steps):
        used.append(now)
        iteration += 1
        gamma = math.log(iteration + 1) / math.log(warmup) if iteration < warmup else 1.0
        now = 0.0 + (rate - 0.0) * gamma
    return used


@pytest.mark.parametrize("warmup", [2, 3, 8, 19, 40])
def test_deepspeed_warmup_is_deepspeed_s_warmup_lr_step_by_step(train_settings: Train, warmup: int) -> None:
    found = rates(train_settings, schedule="deepspeed_warmup", warmup_steps=warmup, learning_rate=1e-4)
    assert found == pytest.approx(warmup_lr(1e-4, warmup, STEPS), rel=1e-12, abs=0)


def test_as_run_the_rate_is_0_twice_then_rises_by_the_logarithm_and_stays(train_settings: Train) -> None:
    found = rates(train_settings, schedule="deepspeed_warmup", warmup_steps=8, learning_rate=1e-4)
    shares = [0, 0, 1 / 3, math.log(3, 8), 2 / 3, math.log(5, 8), math.log(6, 8), math.log(7, 8)]
    assert found == pytest.approx([1e-4 * share for share in shares] + [1e-4] * 12)
    assert found[8:] == [1e-4] * 12


@pytest.mark.parametrize("warmup", [0, 1])
def test_deepspeed_takes_at_least_two_steps_to_warm_up(train_settings: Train, warmup: int) -> None:
    found = rates(train_settings, schedule="deepspeed_warmup", warmup_steps=warmup)
    assert found == [0.0, 0.0] + [train_settings.learning_rate] * (STEPS - 2)


def stock(name: str, rate: float, warmup: int, steps: int) -> list[float]:
    """What an optimiser's steps run with under transformers' own scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    schedule = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return used


@pytest.mark.parametrize("warmup", [0, 1, 5, STEPS - 1])
@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_the_others_are_those_of_transformers(train_settings: Train, name: str, warmup: int) -> None:
    found = rates(train_settings, schedule=name, warmup_steps=warmup)
    assert found == stock(name, train_settings.learning_rate, warmup, STEPS)


def test_every_schedule_of_transformers_that_needs_nothing_else_is_there(train_settings: Train) -> None:
    """A newer transformers may have more: then this list is to be looked at."""
    others = {kind.value for kind in SchedulerType} - set(OF_TRANSFORMERS)
    assert others == {
        "reduce_lr_on_plateau",  # needs losses of other rows
        "cosine_with_min_lr",
        "cosine_warmup_with_min_lr",
        "warmup_stable_decay",  # needs the number of steps of its last part
        "greedy",
    }


@pytest.mark.parametrize(("ratio", "steps", "warmup"), [(0.05, 20, 1), (0.3, 7, 3), (0.0, 5, 0), (0.5, 1, 0)])
def test_without_steps_the_ratio_counts_and_an_only_step_has_no_warmup(
    train_settings: Train, ratio: float, steps: int, warmup: int
) -> None:
    found = rates(train_settings, steps, warmup_ratio=ratio)
    assert found == rates(train_settings, steps, warmup_steps=warmup, warmup_ratio=0.9)
    assert found == stock("cosine", train_settings.learning_rate, warmup, steps)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"schedule": "deepspeed_warmup"}, 1),
        ({"schedule": "deepspeed_warmup", "warmup_steps": 8}, 2),
        ({"schedule": "linear", "warmup_steps": 3}, 1),
    ],
)
def test_a_training_without_any_rate_above_0_is_refused(
    train_settings: Train, changes: dict[str, Any], steps: int
) -> None:
    with pytest.raises(
        DataError, match=rf"^train\.schedule = {changes['schedule']} has .*\({steps}\): raise"
    ):
        rates(train_settings, steps, **changes)


def test_a_rate_below_the_last_of_a_polynomial_is_refused_in_one_line(train_settings: Train) -> None:
    with pytest.raises(DataError, match=r"^train\.schedule = polynomial: [^\n]*$"):
        rates(train_settings, schedule="polynomial", learning_rate=1e-8)
