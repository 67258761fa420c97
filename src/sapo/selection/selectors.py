"""Which candidate a task is trained with: selector functions, registered under the names that methods use."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Each candidate's loss, the best one's number, the seed -> a number
Choose = Callable[[Sequence[float], int, int], int]


@dataclass(frozen=True)
class Selector:
    """choose: candidate 0 is the original.

    every_loss: all candidates are measured on all rows, because the choice needs it or for the record.
    """

    choose: Choose
    every_loss: bool


def lowest_loss(losses: Sequence[float], best: int, seed: int) -> int:
    """SAPO. The search has found it; a tie with the original keeps the original."""
    return best


def highest_loss(losses: Sequence[float], best: int, seed: int) -> int:
    """An ablation: the worst one."""
    return max(range(len(losses)), key=losses.__getitem__)


def any_candidate(losses: Sequence[float], best: int, seed: int) -> int:
    """A control: drawn with the seed, whatever the losses are."""
    return random.Random(seed).choice(range(len(losses)))


SELECTORS = {
    "sapo": Selector(lowest_loss, every_loss=False),
    "highest_loss": Selector(highest_loss, every_loss=True),
    "random": Selector(any_candidate, every_loss=True),
}
ORIGINAL = "original"  # no selector: nothing is collected and nothing measured
