"""Which candidate has the lowest loss, from few row evaluations.

The ways: exhaustive, bounded (exact) and race (approximate).
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist, fmean, variance

# Row numbers -> each row's loss (nats, summed over its answer's tokens)
RowLosses = Callable[[Sequence[int]], list[float]]
FIRST = 16  # rows that every candidate is measured on before any is dropped
GROWTH = 1.5  # from one round of a race to the next
# Of all row evaluations, what a race aims at: beyond it, the worse half of the candidates goes
BUDGET = 1 / 3


class Measured:
    """One candidate's row losses so far: each row is measured once, in the order of the requests."""

    def __init__(self, number: int, row_losses: RowLosses) -> None:
        self.number, self.row_losses = number, row_losses
        self.losses: dict[int, float] = {}

    def measure(self, rows: Sequence[int]) -> None:
        missing = [row for row in rows if row not in self.losses]
        if missing:
            self.losses.update(zip(missing, self.row_losses(missing), strict=True))

    def order(self, rows: Sequence[int]) -> tuple[float, int]:
        """The sort key of candidates measured on these rows: the sum of their losses, then their number."""
        return math.fsum(self.losses[row] for row in rows), self.number


def search(
    kind: str, candidates: Sequence[RowLosses], rows: int, confidence: float
) -> tuple[int, list[dict[int, float]]]:
    """The number of the best candidate, and each one's loss of every row that was measured.

    Candidate 0 is the original: it is always measured on all rows, and wins ties.

    `exhaustive` measures all rows of all candidates. `bounded` is exact too: a loss is never negative, so a
    candidate whose running sum exceeds the best full sum is dropped; the original's hardest rows come first.
    `race` drops a candidate when its paired differences to the leader, on the rows that both were measured
    on, exceed 0 with `confidence` (over all decisions of the race together), and halves the field by its
    means where that leaves more than a third of the work. Raises KeyError for another kind.
    """
    measured = [Measured(number, row_losses) for number, row_losses in enumerate(candidates)]
    measured[0].measure(range(rows))
    ways = {"exhaustive": _exhaustive, "bounded": _bounded, "race": _race}
    best = ways[kind](measured, rows, confidence)
    return best.number, [candidate.losses for candidate in measured]


def _exhaustive(measured: Sequence[Measured], rows: int, _: float) -> Measured:
    for candidate in measured:
        candidate.measure(range(rows))
    return min(measured, key=lambda one: one.order(range(rows)))


def _bounded(measured: Sequence[Measured], rows: int, _: float) -> Measured:
    """All candidates' first rows, then their others, the lowest running sum first, up to the best total."""
    best, *others = measured
    hardest = sorted(range(rows), key=best.losses.__getitem__, reverse=True)
    for one in others:
        one.measure(hardest[:FIRST])
    for one in sorted(others, key=lambda one: one.order(hardest[:FIRST])):
        seen = min(FIRST, rows)
        while one.order(hardest[:seen]) < best.order(hardest):
            if seen == rows:
                best = one
                break
            seen = min(seen + FIRST, rows)
            one.measure(hardest[:seen])
    return best


def _race(measured: Sequence[Measured], rows: int, confidence: float) -> Measured:
    """All candidates on the same growing set of rows, until one is left or all rows are measured."""
    order = _spread(measured[0].losses)
    rounds = math.ceil(math.log(max(rows / FIRST, 1), GROWTH)) + 1
    # Bonferroni: one decision a candidate a round
    z = NormalDist().inv_cdf(1 - (1 - confidence) / (len(measured) * rounds))
    running, seen = list(measured), min(FIRST, rows)
    while True:
        for candidate in running:
            candidate.measure(order[:seen])
        running.sort(key=lambda one: one.order(order[:seen]))
        leader = running[0]
        if seen == rows:
            return leader
        running = [one for one in running if one is leader or not _worse(one, leader, order[:seen], rows, z)]
        seen_next = min(rows, int(seen * GROWTH))
        while len(running) > 2 and not _affordable(measured, running, seen_next, rows):
            running = running[: max(2, (len(running) + 1) // 2)]
        if len(running) == 1:
            return leader
        seen = seen_next


def _worse(one: Measured, leader: Measured, common: Sequence[int], rows: int, z: float) -> bool:
    """Whether the mean difference on all `rows` rows is above 0, judged from the common ones.

    These are drawn without replacement.
    """
    differences = [one.losses[row] - leader.losses[row] for row in common]
    mean, count = fmean(differences), len(common)
    error = math.sqrt(variance(differences, mean) / count * (1 - count / rows))
    return mean > z * error


def _affordable(measured: Sequence[Measured], running: Sequence[Measured], seen: int, rows: int) -> bool:
    """Whether running candidates can go on: to the end, or to `seen` rows within the round's work.

    Each round has its share of the budget.
    """
    used = sum(len(one.losses) for one in measured)
    budget = BUDGET * len(measured) * rows
    to_the_end = sum(rows - len(one.losses) for one in running)
    next_round = sum(max(0, seen - len(one.losses)) for one in running)
    return used + to_the_end <= budget or used + next_round <= budget * math.sqrt(seen / rows)


def _spread(original: dict[int, float]) -> list[int]:
    """The rows in an order whose every beginning holds easy and hard ones alike, by the original's losses.

    Numbers with their bits reversed (van der Corput's sequence) pick from the sorted rows.
    """
    ordered = sorted(original, key=original.__getitem__)
    bits = max(1, (len(ordered) - 1).bit_length())
    picks = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits))
    return [ordered[pick] for pick in picks if pick < len(ordered)]
