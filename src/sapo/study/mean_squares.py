"""The mean squares of scores by wording, seed and test row, in the scale of one wording's score."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sapo.runtime.errors import DataError

Outcome = Sequence[np.ndarray]  # one array a task: (wordings, seeds, rows of that task)
ROUNDING = 1e-12  # a mean square below this share of the mean squared score is rounding: 0


@dataclass(frozen=True)
class MeanSquare:
    """A mean square and its degrees of freedom: value x df / expectation is taken as chi-squared of df."""

    value: float
    df: float

    def pivots(self, draws: int, random: np.random.Generator) -> np.ndarray:
        """Draws of the generalized pivotal quantity of what the mean square expects: (draws,).

        Weerahandi (1993), Journal of the American Statistical Association 88, 899-905.
        """
        if not self.value:
            return np.zeros(draws)
        return np.asarray(self.value * self.df / random.chisquare(self.df, draws))


NONE = MeanSquare(0.0, math.inf)


@dataclass(frozen=True)
class MeanSquares:
    """The mean squares of an outcome, each divided so that it is a variance of one wording's score.

    With T tasks of n_t rows, S seeds, and the variances W (wordings), WS (wordings x seeds), WR_t (wordings x
    rows) and e_t (all three), they expect

        wordings   W + WS / S + sum_t WR_t / (n_t T^2) + sum_t e_t / (S n_t T^2)
        seeds          WS / S                          + sum_t e_t / (S n_t T^2)
        rows                    sum_t WR_t / (n_t T^2) + sum_t e_t / (S n_t T^2)
        error                                            sum_t e_t / (S n_t T^2)

    With one seed, `seeds` and `error` are 0: WS cannot be told from W, nor e from WR.

    scores: (wordings,), the mean over tasks of the means over seeds and rows.
    repeats: the number of seeds.
    rows_error: the standard error of rows - error.
    """

    scores: np.ndarray
    repeats: int
    wordings: MeanSquare
    seeds: MeanSquare
    rows: MeanSquare
    error: MeanSquare
    rows_error: float

    @property
    def noise(self) -> float:
        """The variance of a wording's score around its true value; an estimate that can be negative."""
        return self.seeds.value + self.rows.value - self.error.value

    def noise_pivots(self, draws: int, random: np.random.Generator) -> np.ndarray:
        return np.asarray(
            self.seeds.pivots(draws, random)
            + self.rows.pivots(draws, random)
            - self.error.pivots(draws, random)
        )


def mean_squares(outcome: Outcome) -> MeanSquares:
    """Scores shifted by a constant, or by an effect of rows or of seeds, have the same mean squares.

    Raises DataError for fewer than 3 wordings or 2 rows, scores that are not finite, or other wordings or
    seeds in one task than in another.
    """
    tasks = _checked(outcome)
    wordings, repeats, _ = tasks[0].shape
    least = ROUNDING * max(float(np.square(task).mean()) for task in tasks)
    rows, error, rows_error = _of_rows(tasks, least)
    free = (wordings - 1) * (repeats - 1)

    def between(means: np.ndarray) -> np.ndarray:
        return np.asarray(np.var(means.mean(-1), axis=-1, ddof=1))

    def interaction(means: np.ndarray) -> np.ndarray:
        return np.asarray(np.square(_centred(means, -1, -2)).sum((-1, -2)) / free / repeats)

    return MeanSquares(
        np.mean([task.mean((1, 2)) for task in tasks], axis=0),
        repeats,
        _of_means(between, tasks, wordings - 1, rows.value, least),
        _of_means(interaction, tasks, free, error.value, least) if free else NONE,
        rows,
        error,
        rows_error,
    )


def _of_means(
    square: Callable[[np.ndarray], np.ndarray],
    tasks: Sequence[np.ndarray],
    df: int,
    noise: float,
    least: float,
) -> MeanSquare:
    """A mean square of the means over tasks and rows (..., wordings, seeds).

    The degrees of freedom are `df` for normal scores. With right-or-wrong ones, a wording or seed changes
    nothing on rows that are always right or never, so how large its effect is depends on the test rows drawn.
    What the jackknife over rows shows beyond the part of `df` that is due to their `noise` lowers them.
    """
    means = np.mean([task.mean(-1) for task in tasks], axis=0)
    value = float(square(means))
    if value <= least:
        return NONE
    jackknife = 0.0
    for task in tasks:
        count = task.shape[-1]
        change = (task.mean(-1, keepdims=True) - task) / (count - 1)  # were a row left out
        left = square(means + np.moveaxis(change, -1, 0) / len(tasks))
        jackknife += (count - 1) ** 2 / count * float(np.var(left, ddof=1))
    net = max(value - noise, 0.0)
    known = 2 * (value**2 - net**2) / df
    beyond = min(max(jackknife - known, 0.0), 4 * net**2)  # as much as if all effect were on a single row
    return MeanSquare(value, 2 * value**2 / (2 * value**2 / df + beyond))


def _of_rows(tasks: Sequence[np.ndarray], least: float) -> tuple[MeanSquare, MeanSquare, float]:
    """`rows`, `error` and `rows_error` of MeanSquares, the first two with the degrees of normal scores.

    The standard error is that of two-way clusters, test rows and wordings (Cameron, Gelbach & Miller 2011,
    Journal of Business & Economic Statistics 29, 238-249), since right-or-wrong scores vary more on some rows
    and under some wordings than on others; it is at least that of normal scores.
    """
    wordings, repeats, _ = tasks[0].shape
    values, spreads = np.zeros(2), np.zeros(2)  # of rows and of error
    between_rows, by_wording = 0.0, np.zeros(wordings)
    for task in tasks:
        count = task.shape[-1]
        weight = 1 / (len(tasks) ** 2 * count * (count - 1) * (wordings - 1))
        net = weight * np.square(_centred(task.mean(1), 0, 1))  # (wordings, rows)
        parts = [net.sum(), 0.0]
        if repeats > 1:
            rest = weight / repeats / (repeats - 1) * np.square(_centred(task, 0, 1, 2)).sum(1)
            parts[1] = rest.sum()
            net = net - rest
        values += parts
        spreads += 2 * np.square(parts) / ((wordings - 1) * (count - 1) * np.array([1, max(repeats - 1, 1)]))
        between_rows += count * float(np.var(net.sum(0), ddof=1))
        by_wording += net.sum(1)
    normal = float(spreads.sum())
    clustered = between_rows + wordings * float(np.var(by_wording, ddof=1)) - normal
    rows, error = (
        MeanSquare(float(value), float(2 * value**2 / spread)) if value > least else NONE
        for value, spread in zip(values, spreads, strict=True)
    )
    return rows, error, math.sqrt(max(normal, clustered))


def _centred(table: np.ndarray, *axes: int) -> np.ndarray:
    """The interaction of all these axes: what is left when every mean over some of them is taken away."""
    for axis in axes:
        table = table - table.mean(axis, keepdims=True)
    return table


def _checked(outcome: Outcome) -> list[np.ndarray]:
    tasks = [np.asarray(task, dtype=float) for task in outcome]
    if not tasks:
        raise DataError("no scores: an outcome needs at least one task")
    for task in tasks:
        if task.ndim != 3 or task.shape[:2] != tasks[0].shape[:2]:
            shapes = ", ".join(str(one.shape) for one in tasks)
            raise DataError(f"scores must be (wordings, seeds, rows), alike but for the rows, not {shapes}")
        if task.shape[0] < 3 or task.shape[1] < 1 or task.shape[2] < 2:
            raise DataError(f"scores {task.shape}: 3 wordings, 1 seed and 2 rows are the least")
        if not np.isfinite(task).all():
            raise DataError("a score is missing or not finite: measure that wording again")
    return tasks
