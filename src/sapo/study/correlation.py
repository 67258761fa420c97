"""Rank correlations of what is known before an update with what it does, and of two effects."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import optimize, stats

from sapo.analysis.intervals import LEVEL, Estimate
from sapo.runtime.errors import DataError

PERMUTATIONS = 9_999
UNKNOWN = Estimate(math.nan, math.nan, math.nan)
Values = Sequence[float] | np.ndarray


def spearman(x: Values, y: Values, level: float = LEVEL) -> Estimate:
    """Spearman's correlation of two equally long rows of 3 values or more; NaN where one of them is constant.

    The interval is that of Bonett & Wright (2000), Psychometrika 65, 23-28, NaN for fewer than 4 values; p is
    of a permutation test, which keeps its level with ties and few values. Raises DataError for lengths that
    differ or are below 3, and for values that are not finite.
    """
    _check(x, y)
    first, second = _ranks(x), _ranks(y)
    if not (first.any() and second.any()):
        return UNKNOWN
    r = float(first @ second)
    p = (1 + int((np.abs(first[permutations(len(first))] @ second) >= abs(r) - 1e-9).sum())) / (
        1 + PERMUTATIONS
    )
    return Estimate(r, *_interval(r, len(first), float(stats.norm.ppf((1 + level) / 2))), p)


def spearman_difference(a: Values, b: Values, y: Values, level: float = LEVEL) -> Estimate:
    """Spearman's correlation of `b` with `y` minus that of `a` with `y`.

    It is positive where a's is the more negative one: where low values of a go with high ones of y, more than
    those of b do. The interval is that of Zou (2007), Psychological Methods 12, 399-413, for dependent
    correlations that share a variable, from those of `spearman`; p is the level at which it would begin to
    include 0. A lower alpha, as Bonferroni's 1 - 0.05 / m, is a higher `level`. NaN where one of the three is
    constant or there are fewer than 4 values. Raises DataError as `spearman`.
    """
    _check(a, b, y)
    first, second, effect = _ranks(a), _ranks(b), _ranks(y)
    count = len(effect)
    if not (first.any() and second.any() and effect.any()):
        return UNKNOWN
    of_a, of_b = float(first @ effect), float(second @ effect)
    between = _inner(float(first @ second), count)
    correlation = _shared(_inner(of_a, count), _inner(of_b, count), between)

    def ends(quantile: float) -> tuple[float, float]:
        (low_a, high_a), (low_b, high_b) = _interval(of_a, count, quantile), _interval(of_b, count, quantile)
        return (
            of_b - of_a - _distance(of_b - low_b, high_a - of_a, correlation),
            of_b - of_a + _distance(high_b - of_b, of_a - low_a, correlation),
        )

    difference = of_b - of_a
    low, high = ends(float(stats.norm.ppf((1 + level) / 2)))
    if count < 4:
        return Estimate(difference, low, high)
    if abs(difference) < 1e-9:
        return Estimate(difference, low, high, 1.0)
    side, farthest = (0 if difference > 0 else 1), 38.0  # the normal tail beyond is 0 in floating point
    if ends(farthest)[side] * difference > 0:
        return Estimate(difference, low, high, 0.0)
    quantile = optimize.brentq(lambda quantile: ends(quantile)[side], 0.0, farthest)
    return Estimate(difference, low, high, float(2 * stats.norm.sf(quantile)))


@cache
def permutations(count: int) -> np.ndarray:
    """The same random orders of `count` values at every call: (PERMUTATIONS, count)."""
    orders = np.random.default_rng(0).permuted(np.tile(np.arange(count), (PERMUTATIONS, 1)), axis=1)
    return np.asarray(orders)


def _check(*rows: Values) -> None:
    lengths = {len(row) for row in rows}
    if len(lengths) > 1 or min(lengths) < 3:
        raise DataError(
            f"a rank correlation needs as many values on each side, 3 or more, not {sorted(lengths)}"
        )
    if not all(np.isfinite(row).all() for row in rows):
        raise DataError("a rank correlation of a value that is missing or not finite: measure it again")


def _ranks(values: Values) -> np.ndarray:
    """Ranks with mean 0 and length 1, so that a product is a correlation; all 0 for a constant."""
    ranks = np.asarray(stats.rankdata(values))
    ranks -= ranks.mean()
    length = float(np.linalg.norm(ranks))
    return ranks / length if length else ranks


def _inner(r: float, count: int) -> float:
    """r, at most the highest rank correlation below 1: Fisher's z of 1 is infinite."""
    most = 1 - 12 / (count * (count**2 - 1))
    return min(max(r, -most), most)


def _interval(r: float, count: int, quantile: float) -> tuple[float, float]:
    if count < 4:
        return math.nan, math.nan
    inner = _inner(r, count)
    width = quantile * math.sqrt((1 + inner**2 / 2) / (count - 3))
    z = math.atanh(inner)
    return min(math.tanh(z - width), r), max(math.tanh(z + width), r)


def _shared(a: float, b: float, between: float) -> float:
    """The correlation of two sample correlations with the same variable (Zou 2007)."""
    product = (between - a * b / 2) * (1 - a**2 - b**2 - between**2) + between**3
    return min(max(product / ((1 - a**2) * (1 - b**2)), -1.0), 1.0)


def _distance(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0))
