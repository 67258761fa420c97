"""How much of the scores' spread is due to the wording, and what one wording gains over another.

An outcome (the task itself, earlier tasks, unseen tasks) is one array a task, (wordings, seeds, rows), in
the metric's unit. A wording's score is the mean over tasks, all of the same weight, of its means over seeds
and rows. The model of each task is the crossed one with random effects,

    y_ksi = mu + W_k + S_s + R_i + WS_ks + WR_ki + SR_si + e_ksi

for wording k, seed s and test row i; tasks are fixed. What all wordings share (S, R, SR) plays no part below.
Estimates are by the method of moments. Scores that do not vary give intervals without width, which is not
certainty. How often the intervals cover the truth: benchmarks/study_coverage.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sapo.analysis.intervals import ALIKE, LEVEL, Estimate
from sapo.runtime.errors import DataError
from sapo.study.mean_squares import MeanSquares, Outcome, mean_squares

DRAWS = 10_000  # of the generalized pivotal quantities
UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Components:
    """Standard deviations in the metric's unit. A negative estimate of a variance is shown as 0.

    wording: over wordings, net of noise: of W of the mean over tasks, for all rows and seeds that might have
        been drawn.
    seed: of the wording x seed interaction WS, net of test rows: what another seed changes of one training's
        score beside what it changes for all wordings.
    rows: what the choice of the test rows (as many as there are) puts into one wording's score (WR), net of
        seeds.
    repeat: what another seed changes of one wording's score on these same test rows: WS and e.
    noise: of one wording's score, a mean over all its seeds and rows, around its true value;
        noise^2 = rows^2 + repeat^2 / seeds, unless rows^2 is estimated negative. Compare `wording` with it.
    reliability: the share of the variance of the wordings' scores that is not noise, 0 to 1; NaN where they
        are all the same.

    With one seed, `seed` and `repeat` are NaN, `wording` includes WS, and `rows` and `noise` include e.
    """

    wording: Estimate
    seed: Estimate
    rows: Estimate
    repeat: float
    noise: float
    reliability: Estimate


def components(outcome: Outcome, level: float = LEVEL) -> Components:
    """The variance components of an outcome, with intervals of that level.

    Those of `wording`, `seed` and `reliability` are generalized confidence intervals (Weerahandi 1993), that
    of `rows` is from the standard error by two-way clusters. Raises DataError as `mean_squares` does.
    """
    squares = mean_squares(outcome)
    random = np.random.default_rng(0)
    total, noise = squares.wordings.pivots(DRAWS, random), squares.noise_pivots(DRAWS, random)
    wording = _deviation(_wording(squares), *_ends(total - noise, level))
    seeds, seed, repeat = squares.repeats, UNKNOWN, math.nan
    if seeds > 1:
        drawn = squares.seeds.pivots(DRAWS, random) - squares.error.pivots(DRAWS, random)
        ends = _ends(seeds * drawn, level)
        seed = _deviation(seeds * (squares.seeds.value - squares.error.value), *ends)
        repeat = math.sqrt(seeds * squares.seeds.value)
    net = squares.rows.value - squares.error.value
    width = squares.rows_error * stats.t.ppf((1 + level) / 2, sum(task.shape[-1] - 1 for task in outcome))
    rows = _deviation(net, net - width, net + width)
    reliability = UNKNOWN
    if squares.wordings.value:
        shares = [1 - squares.noise / squares.wordings.value, *_ends(1 - noise / total, level)]
        reliability = Estimate(*(float(share) for share in np.clip(shares, 0, 1)))
    return Components(wording, seed, rows, repeat, math.sqrt(max(squares.noise, 0)), reliability)


def ratio(numerator: Outcome, denominator: Outcome, level: float = LEVEL) -> Estimate:
    """The ratio of the two outcomes' `wording` deviations, of different test rows and the same wordings.

    The value is inf where the denominator's estimate is 0, and NaN where both are. The upper end is inf
    unless the data exclude a denominator of 0; the interval is [0, inf] where they say nothing. It is a
    generalized one with the two sides drawn independently, though the wordings are the same: effects with a
    correlation, of either sign, make the ratio vary less than that, so the interval is rather too wide.
    Raises DataError as `mean_squares` does, and for different numbers of wordings.
    """
    random = np.random.default_rng(0)
    values, drawn = [], []
    sides = mean_squares(numerator), mean_squares(denominator)
    if len(sides[0].scores) != len(sides[1].scores):
        counts = " and ".join(str(len(side.scores)) for side in sides)
        raise DataError(f"a ratio is of outcomes of the same wordings, not of {counts}")
    for squares in sides:
        pivots = squares.wordings.pivots(DRAWS, random) - squares.noise_pivots(DRAWS, random)
        values.append(np.sqrt(np.maximum(_wording(squares), 0)))
        drawn.append(np.sqrt(np.maximum(pivots, 0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        value, ratios = values[0] / values[1], drawn[0] / drawn[1]
    # 0 / 0 may be any number
    low = np.quantile(np.where(np.isnan(ratios), 0, ratios), (1 - level) / 2, method="lower")
    high = np.quantile(np.where(np.isnan(ratios), math.inf, ratios), (1 + level) / 2, method="higher")
    return Estimate(float(value), float(low), float(high))


def gain(outcome: Outcome, chosen: int, against: int | None = None, level: float = LEVEL) -> Estimate:
    """The score of wording `chosen` minus that of wording `against`, or minus the mean over all wordings.

    The interval is Student's t for the difference of their true scores; p is of no difference. The noise is
    that of their own differences on the test rows, and of the wording x seed interaction of all wordings
    (degrees of freedom: Satterthwaite). Both hold only if the choice did not look at this outcome's scores.
    With one seed they are about these trainings alone. Raises DataError as `mean_squares` does, and for a
    wording that is not there.
    """
    squares = mean_squares(outcome)
    wordings = len(squares.scores)
    for index in (chosen, against):
        if index is not None and not 0 <= index < wordings:
            raise DataError(f"there is no wording {index}: they go from 0 to {wordings - 1}")
    weights = np.zeros(wordings)
    weights[chosen] = 1
    weights -= 1 / wordings if against is None else np.arange(wordings) == against
    difference, square = float(weights @ squares.scores), float(weights @ weights)
    seeds, error = square * squares.seeds.value, square * squares.error.value
    rows, spread = 0.0, seeds**2 / squares.seeds.df + error**2 / squares.error.df
    for task in outcome:
        differences = weights @ np.asarray(task, dtype=float).mean(1)
        part = float(np.var(differences, ddof=1)) / len(differences) / len(outcome) ** 2
        rows, spread = rows + part, spread + part**2 / (len(differences) - 1)
    deviation = math.sqrt(max(seeds + rows - error, rows, seeds))  # neither WS nor WR is negative
    if deviation < ALIKE:
        return Estimate(difference, difference, difference, 1.0 if abs(difference) < ALIKE else math.nan)
    df = deviation**4 / spread
    width = deviation * float(stats.t.ppf((1 + level) / 2, df))
    p = float(2 * stats.t.sf(abs(difference) / deviation, df))
    return Estimate(difference, difference - width, difference + width, p)


def percentile(values: Sequence[float], chosen: int) -> float:
    """The share of the other values, in percent, that the chosen one is above; equal ones count half."""
    others = np.delete(np.asarray(values, dtype=float), chosen)
    return float(100 * np.mean((others < values[chosen]) + 0.5 * (others == values[chosen])))


def regret(values: Sequence[float], chosen: int) -> float:
    """The highest value minus the chosen one, as observed; noise makes it larger than it is."""
    return float(np.max(values) - values[chosen])


def _wording(squares: MeanSquares) -> float:
    return squares.wordings.value - squares.noise


def _ends(drawn: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _deviation(*variances: float) -> Estimate:
    """An estimate of a standard deviation from the value and interval of the variance."""
    return Estimate(*(math.sqrt(max(variance, 0)) for variance in variances))
