"""How sure a score is: intervals over the test rows, over seeds, and of the difference between two methods.

Test rows are resampled within each task, the same rows for every stage, metric and method, because the same
rows were answered by all of them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.continual import OF_PROBES, transfer
from sapo.artifacts.scores import Kind, RowScores, StageScores
from sapo.runtime.errors import DataError, OtherRunError

LEVEL = 0.95
RESAMPLES = 2000
ALONE = "an interval without width: the rows are all alike there, which is not certainty"
ALIKE = 1e-9  # in any metric's unit: differences below it are rounding

Table = dict[str, np.ndarray]  # task -> (stages, metrics, rows), in each metric's unit


def row_tables(
    lines: Iterable[RowScores], stages: Sequence[str], order: Sequence[str], where: str
) -> dict[Kind, Table]:
    """The score of every row under the `chosen` and the `original` prompt.

    Raises OtherRunError that names stage and task for rows that are missing, or not as many after every
    stage.
    """
    found = {(line.stage, line.task, line.prompt): line for line in lines}
    tables: dict[Kind, Table] = {"chosen": {}, "original": {}}
    for prompt, table in tables.items():
        for task in order:
            parts = []
            for stage in stages:
                # One line where both are the same
                line = found.get((stage, task, prompt)) or found.get((stage, task, "chosen"))
                if line is None:
                    raise OtherRunError(f"{where} lacks the row scores of {task} after {stage}")
                if odd := METRICS.keys() ^ line.metrics.keys():
                    raise OtherRunError(
                        f"{where}: {task} after {stage} has too many or too few metrics: {', '.join(odd)}"
                    )
                parts.append([line.metrics[metric] for metric in METRICS])
            counts = {len(scores) for part in parts for scores in part}
            if len(counts) != 1 or 0 in counts:
                raise OtherRunError(
                    f"{where}: {task} has {sorted(counts)} rows, not the same number after every stage"
                )
            table[task] = np.array(parts)
    return tables


def check_means(table: Table, stages: Sequence[StageScores], kind: Kind, where: str) -> None:
    """Refuse row scores whose means are not the scores of the stages (OtherRunError)."""
    for task, scores in table.items():
        means = scores.mean(-1)
        for one, values in zip(stages, means, strict=True):
            for metric, mean in zip(METRICS, values, strict=True):
                score = one.under(kind)[task][metric]
                if abs(score - mean) >= 1e-5:  # rows are kept to 1e-6
                    raise OtherRunError(
                        f"{where}: the rows of {task} after {one.stage} have a mean {metric} of {mean:.6f}, "
                        f"but the scores under the {kind} prompt say {score}"
                    )


def resampled_means(table: Table, seed: int = 0) -> np.ndarray:
    """The scores of RESAMPLES draws of the test rows: (stages, tasks, metrics, RESAMPLES)."""
    random = np.random.default_rng(seed)
    return np.stack([_drawn_means(scores, random) for scores in table.values()], axis=1)


def _drawn_means(scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
    rows = scores.shape[-1]
    counts = np.empty((RESAMPLES, rows))  # how often a row was drawn is all that its mean needs
    for drawn in counts:
        drawn[:] = np.bincount(random.integers(rows, size=rows), minlength=rows)
    return np.asarray(scores @ counts.T / rows)


def interval(samples: np.ndarray, rows: int) -> np.ndarray:
    """The percentile interval of bootstrap samples (..., RESAMPLES) of statistics of `rows` rows: (..., 2).

    The percentiles are those of Hesterberg's expanded interval (2015, The American Statistician 69, 371-386):
    plain ones are too narrow for few rows. Nothing can be said from one row: NaN.
    """
    if rows < 2:
        return np.full((*samples.shape[:-1], 2), np.nan)
    tail = stats.norm.cdf(math.sqrt(rows / (rows - 1)) * stats.t.ppf((1 - LEVEL) / 2, rows - 1))
    return np.moveaxis(np.quantile(samples, [tail, 1 - tail], axis=-1), 0, -1)


def row_intervals(table: Table) -> tuple[np.ndarray, dict[str, dict[str, list[float | None]]]]:
    """Intervals of every score (stages, tasks, metrics, 2) and of every continual-learning metric.

    The latter: metric -> continual-learning metric -> the `ends` of its interval.
    """
    means = resampled_means(table)
    counts = [scores.shape[-1] for scores in table.values()]
    cells = np.stack([interval(means[:, number], count) for number, count in enumerate(counts)], axis=1)
    found = {name: interval(values, _fewest_rows(table, name)) for name, values in transfer(means).items()}
    return cells, {
        metric: {name: ends(of[number]) for name, of in found.items()}
        for number, metric in enumerate(METRICS)
    }


def _fewest_rows(table: Table, name: str) -> int:
    """The fewest test rows of the tasks that a continual-learning metric is of: the probes or the others."""
    counts = [scores.shape[-1] for scores in table.values()]
    trained = len(next(iter(table.values()))) - 1  # a stage each, after the base model's
    return int(min(counts[trained:] if name in OF_PROBES else counts[:trained]))


def ends(pair: np.ndarray) -> list[float | None]:
    """The ends of an interval to 1e-4, for a file: null for NaN."""
    return [None if math.isnan(end) else round(float(end), 4) for end in pair]


@dataclass(frozen=True)
class Estimate:
    """A mean or difference, its interval, and the p-value of a test if any; NaN where nothing can be said."""

    value: float
    low: float
    high: float
    p: float = math.nan


def over_rows(tables: Sequence[Table]) -> dict[str, dict[str, Estimate]]:
    """metric -> continual-learning metric -> the mean over runs, with the interval over test rows.

    The runs, one table each, were tested on the same rows: each draw takes the same ones of all of them.
    """
    observed = [transfer(_plain(table)) for table in tables]
    drawn = [transfer(resampled_means(table)) for table in tables]
    result: dict[str, dict[str, Estimate]] = {metric: {} for metric in METRICS}
    for name in observed[0]:
        values = np.mean([one[name] for one in observed], axis=0)[:, 0]
        ends = interval(np.mean([one[name] for one in drawn], axis=0), _fewest_rows(tables[0], name))
        for metric, value, (low, high) in zip(METRICS, values, ends, strict=True):
            result[metric][name] = Estimate(float(value), float(low), float(high))
    return result


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean over seeds with Student's t interval, and p of the hypothesis that it is 0.

    One seed has no interval. Where all values are the same, seeds have shown no spread and nothing is tested,
    but for all zeros: p = 1.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Estimate(mean, math.nan, math.nan)
    if np.ptp(values) < ALIKE:
        return Estimate(mean, mean, mean, 1.0 if abs(mean) < ALIKE else math.nan)
    test = stats.ttest_1samp(values, 0)
    bounds = test.confidence_interval(LEVEL)
    return Estimate(mean, float(bounds.low), float(bounds.high), float(test.pvalue))


def seeds_difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """mean(a) - mean(b) with Welch's interval and test, for runs of different seeds; at least two a side."""
    difference = float(np.mean(a) - np.mean(b))
    if np.ptp(a) < ALIKE and np.ptp(b) < ALIKE:
        return Estimate(difference, difference, difference, 1.0 if abs(difference) < ALIKE else math.nan)
    test = stats.ttest_ind(a, b, equal_var=False)
    bounds = test.confidence_interval(LEVEL)
    return Estimate(difference, float(bounds.low), float(bounds.high), float(test.pvalue))


def rows_difference(a: Sequence[Table], b: Sequence[Table]) -> dict[str, dict[str, Estimate]]:
    """metric -> continual-learning metric -> the difference of two methods, paired over test rows.

    a[i] and b[i] have the same seed. The interval is the bootstrap's; p is that of a permutation test: were
    the methods alike, every test row (in all its stages and seeds) could as well have been the other
    method's. Raises DataError where the rows are not the same.
    """
    if any(one[task].shape != other[task].shape for one, other in zip(a, b, strict=True) for task in one):
        raise DataError("the two methods were not tested on the same rows")
    observed = _differences([_plain(one) for one in a], [_plain(other) for other in b])
    drawn = _differences([resampled_means(one) for one in a], [resampled_means(other) for other in b])
    swapped = _differences(
        *zip(*[_swapped(one, other) for one, other in zip(a, b, strict=True)], strict=True)
    )
    result: dict[str, dict[str, Estimate]] = {}
    for number, metric in enumerate(METRICS):
        result[metric] = {}
        for name, value in observed.items():
            low, high = interval(drawn[name][number], _fewest_rows(a[0], name))
            extreme = np.abs(swapped[name][number]) >= abs(value[number, 0]) - ALIKE
            p = (1 + int(extreme.sum())) / (1 + RESAMPLES)
            result[metric][name] = Estimate(float(value[number, 0]), float(low), float(high), p)
    return result


def _plain(table: Table) -> np.ndarray:
    return np.stack([scores.mean(-1, keepdims=True) for scores in table.values()], axis=1)


def _differences(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Each continual-learning metric of a - b, the mean over seeds."""
    pairs = [(transfer(one), transfer(other)) for one, other in zip(a, b, strict=True)]
    return {name: np.mean([one[name] - other[name] for one, other in pairs], axis=0) for name in pairs[0][0]}


def _swapped(a: Table, b: Table) -> tuple[np.ndarray, np.ndarray]:
    """The scores of both methods after RESAMPLES random exchanges of rows (the same ones at every call)."""
    random, halves, middles = np.random.default_rng(1), [], []
    for task, scores in a.items():
        rows = scores.shape[-1]
        signs = random.integers(2, size=(RESAMPLES, rows), dtype=np.int8) * 2.0 - 1
        halves.append((scores - b[task]) / 2 @ signs.T / rows)
        middles.append(((scores + b[task]) / 2).mean(-1, keepdims=True))
    half, middle = np.stack(halves, axis=1), np.stack(middles, axis=1)
    return middle + half, middle - half


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction of p-values for testing all of them at once; NaN stays NaN and is not counted."""
    tested = sorted((index for index, value in enumerate(p) if not math.isnan(value)), key=p.__getitem__)
    corrected, highest = list(p), 0.0
    for place, index in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - place) * p[index]))
        corrected[index] = highest
    return corrected
