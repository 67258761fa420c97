"""Which candidate a task is trained with: selector functions, registered under the names that methods use."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sapo.runtime.errors import DataError

# Each candidate's loss, the best one's number, what to draw with -> a number
Choose = Callable[[Sequence[float], int, str], int]


@dataclass(frozen=True)
class Selector:
    """choose: candidate 0 is the original.

    every_loss: all candidates are measured on all rows, because the choice needs it or for the record.
    """

    choose: Choose
    every_loss: bool


def lowest_loss(losses: Sequence[float], best: int, draw: str) -> int:
    """SAPO. The search has found it; a tie with the original keeps the original."""
    return best


def highest_loss(losses: Sequence[float], best: int, draw: str) -> int:
    """An ablation: the worst one."""
    return max(range(len(losses)), key=losses.__getitem__)


def any_candidate(losses: Sequence[float], best: int, draw: str) -> int:
    """A control: drawn, whatever the losses are."""
    return random.Random(draw).choice(range(len(losses)))


SELECTORS = {
    "sapo": Selector(lowest_loss, every_loss=False),
    "highest_loss": Selector(highest_loss, every_loss=True),
    "random": Selector(any_candidate, every_loss=True),
}
# No selectors: nothing is measured
ORIGINAL = "original"  # and nothing collected
FIXED = "fixed"  # a candidate by its number, or a text of one's own


def fixed_candidate(
    task: str, texts: Sequence[str], candidate: int | None, own: str | None
) -> tuple[int, list[str]]:
    """The number of the fixed candidate, and all candidates: `own` is one more where it is none of them.

    A task without an instruction keeps the empty one, unless it has a text of its own. Raises DataError for a
    candidate that the task does not have.
    """
    if own is not None:
        found = [*texts] if own in texts else [*texts, own]
        return found.index(own), found
    number = candidate if candidate is not None and texts[0] else 0
    if number >= len(texts):
        raise DataError(
            f"{task} has no candidate {number}, its last one is number {len(texts) - 1}: "
            "choose another method.candidate"
        )
    return number, [*texts]
