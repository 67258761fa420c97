"""Which candidate a task is trained with, from the candidates' losses."""

import random
from collections.abc import Sequence


def choose(selector: str, losses: Sequence[float], seed: int) -> int:
    """The index of the chosen candidate; candidate 0 is the original, and a tie with it keeps it.

    `sapo` takes the lowest loss, `highest_loss` the highest (an ablation), `random` any (a control), `original` 0.
    Raises ValueError for another selector.
    """
    candidates = range(len(losses))
    if selector == "original":
        return 0
    if selector == "sapo":
        return min(candidates, key=losses.__getitem__)
    if selector == "highest_loss":
        return max(candidates, key=losses.__getitem__)
    if selector == "random":
        return random.Random(seed).choice(candidates)
    raise ValueError(f"unknown selector {selector!r}")


def ranks(losses: Sequence[float]) -> list[int]:
    """Each candidate's rank by loss, 1 for the lowest; equal losses rank in the candidates' order."""
    order = sorted(range(len(losses)), key=losses.__getitem__)
    ranked = [0] * len(losses)
    for rank, index in enumerate(order, start=1):
        ranked[index] = rank
    return ranked
