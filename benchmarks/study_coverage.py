"""Do the study's intervals hold what they say? How often they cover the true value, where that is known.

    python benchmarks/study_coverage.py                  # 2000 studies in each of 8 worlds
    python benchmarks/study_coverage.py --draws 300 --worlds "normal, small"

A study has 21 wordings and 2 seeds; 48 test rows of the task itself, 48 of an earlier task, 32 of each of
three unseen ones. Scores are normal, or 0 and 100 (right or wrong) where a normal latent score is below or
above 0: right on 70 % of the rows in-task, 20 % retained, 20 to 70 % unseen. The effects of a wording on the
three outcomes have a correlation of -0.6 (in-task, retained) and 0.6 (unseen, retained). In `vanishing`,
wordings have no effect in-task. True values are the standard deviations and means over all wordings, seeds
and rows, by the normal distribution function; those of rank correlations are of the measured effects of all
wordings, by simulation. Predictors have a correlation with the effect on what is retained of -0.8 (planted),
-0.4 (second, third) and 0 (null). The wording that is lowest in `planted` is the chosen one.
"""

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from sapo.analysis.intervals import Estimate
from sapo.study.components import components, gain, ratio
from sapo.study.correlation import spearman, spearman_difference

WORDINGS, SEEDS = 21, 2
# Standard deviations of the latent scores: of rows, seeds, their interactions, and what is left
ROWS, SEED, ROWS_SEED, ROWS_WORDING, REST = 1.5, 0.2, 0.4, 0.6, 0.7
SEED_WORDING, SEED_WORDING_TASK = 0.2, 0.1  # on all tasks of an outcome, and on one alone
NAMES = ("in-task", "retained", "unseen")
SLOPES = {"planted": -0.8, "second": -0.4, "third": -0.4, "null": 0.0}


@dataclass(frozen=True)
class World:
    """One outcome: where latent scores lie (one number a task), rows a task, and the wordings' deviation."""

    places: tuple[float, ...]
    rows: int
    wording: float
    right_or_wrong: bool

    @property
    def own(self) -> float:
        """What of a wording's effect is a task's own."""
        return self.wording / 2 if len(self.places) > 1 else 0.0

    @cached_property
    def total(self) -> float:
        parts = (ROWS, SEED, ROWS_SEED, ROWS_WORDING, REST, SEED_WORDING, SEED_WORDING_TASK)
        return sum(part**2 for part in (*parts, self.wording, self.own))

    def draw(
        self, effects: np.ndarray, random: np.random.Generator, seeds: int = SEEDS
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Scores (wordings, seeds, rows) of each task, and each wording's true score."""
        wordings, normal = len(effects), random.standard_normal
        seed, training = SEED * normal((seeds, 1)), SEED_WORDING * normal((wordings, seeds, 1))
        scores, true = [], []
        for place in self.places:
            level = place + self.wording * effects + self.own * normal(wordings)
            latent = level[:, None, None] + seed + training + SEED_WORDING_TASK * normal((wordings, seeds, 1))
            latent = latent + ROWS * normal(self.rows) + ROWS_SEED * normal((seeds, self.rows))
            latent += ROWS_WORDING * normal((wordings, 1, self.rows)) + REST * normal(latent.shape)
            scores.append(100.0 * (latent > 0) if self.right_or_wrong else latent)
            rest = math.sqrt(self.total - self.wording**2 - self.own**2)
            true.append(100 * stats.norm.cdf(level / rest) if self.right_or_wrong else level)
        return scores, np.mean(true, axis=0)

    def variance(self, shared: float, own: float = 0.0, task: int | None = None) -> float:
        """The variance of the score expected from effects of these latent variances.

        Of one task, or of the mean over all; `own` is that of effects which each task has for itself.
        """
        places = self.places if task is None else self.places[task : task + 1]
        if not self.right_or_wrong:
            return shared + own / len(places)
        ends = np.array(places) / math.sqrt(self.total)
        found = 0.0
        for i, one in enumerate(ends):
            for j, other in enumerate(ends):
                r = (shared + own * (i == j)) / self.total
                both = stats.multivariate_normal.cdf([one, other], cov=[[1, r], [r, 1]]) if r else None
                apart = stats.norm.cdf(one) * stats.norm.cdf(other)
                found += 0.0 if both is None else both - apart
        return 1e4 * float(found) / len(places) ** 2

    def truth(self) -> dict[str, float]:
        """The standard deviations of the score's components (Hoeffding), and the reliability."""
        w, o, ws, wso = self.wording**2, self.own**2, SEED_WORDING**2, SEED_WORDING_TASK**2
        s, r, wr, sr = SEED**2, ROWS**2, ROWS_WORDING**2, ROWS_SEED**2
        wording = self.variance(w, o)
        seed = self.variance(w + s + ws, o + wso) - wording - self.variance(s)
        rows = error = 0.0
        for task in range(len(self.places)):
            weight = 1 / self.rows / len(self.places) ** 2
            alone = {"w": w + o, "s": s, "r": r}
            v = {name: self.variance(part, task=task) for name, part in alone.items()}
            v["ws"] = self.variance(w + o + s + ws + wso, task=task) - v["w"] - v["s"]
            v["wr"] = self.variance(w + o + r + wr, task=task) - v["w"] - v["r"]
            v["sr"] = self.variance(s + r + sr, task=task) - v["s"] - v["r"]
            right = stats.norm.cdf(self.places[task] / math.sqrt(self.total))
            total = 1e4 * right * (1 - right) if self.right_or_wrong else self.total
            rows += weight * v["wr"]
            error += weight * (total - sum(v.values()))
        noise = seed / SEEDS + rows + error / SEEDS
        return {
            "wording SD": math.sqrt(wording),
            "seed SD": math.sqrt(seed),
            "rows SD": math.sqrt(rows),
            "reliability": wording / (wording + noise),
        }


def worlds() -> dict[str, list[World]]:
    """The outcomes in-task, retained and unseen of each world."""
    sizes = {"0": (0.0, 0.0), "small": (0.15, 0.15), "large": (0.6, 0.6), "vanishing": (0.0, 0.25)}
    return {
        f"{kind}, {size}": [
            World((1.0,), 48, first, kind != "normal"),
            World((-1.6,), 48, second, kind != "normal"),
            World((-1.6, -0.2, 1.0), 32, second, kind != "normal"),
        ]
        for kind in ("normal", "right or wrong")
        for size, (first, second) in sizes.items()
    }


def study(
    outcomes: list[World], random: np.random.Generator, wordings: int = WORDINGS
) -> tuple[list[list[np.ndarray]], list[np.ndarray], dict[str, np.ndarray]]:
    """The scores of each outcome, the true scores, and the predictors."""
    retained, *others = random.standard_normal((3, wordings))
    effects = [-0.6 * retained + 0.8 * others[0], retained, 0.6 * retained + 0.8 * others[1]]
    drawn = [outcome.draw(one, random) for outcome, one in zip(outcomes, effects, strict=True)]
    predictors = {
        name: slope * retained + math.sqrt(1 - slope**2) * random.standard_normal(wordings)
        for name, slope in SLOPES.items()
    }
    return [scores for scores, _ in drawn], [true for _, true in drawn], predictors


def measured(scores: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean([task.mean((1, 2)) for task in scores], axis=0))


def correlations(outcomes: list[World], draws: int = 20, wordings: int = 1500) -> dict[str, float]:
    """Spearman's correlations of the measured effects on what is retained, over all wordings."""
    random, found = np.random.default_rng(7), []
    for _ in range(draws):
        scores, _, predictors = study(outcomes, random, wordings)
        columns = [*predictors.values(), measured(scores[2]), measured(scores[1])]
        found.append(stats.spearmanr(np.array(columns).T).statistic[-1, :-1])
    return dict(zip([*SLOPES, "unseen"], np.mean(found, axis=0).tolist(), strict=True))


def checks(outcomes: list[World], draws: int) -> Iterator[tuple[str, str, float, Estimate]]:
    """What, of which outcome, its true value, and what one study says of it."""
    random = np.random.default_rng(0)
    truths = [outcome.truth() for outcome in outcomes]
    rho = correlations(outcomes)
    for _ in range(draws):
        scores, true, predictors = study(outcomes, random)
        chosen = 1 + int(np.argmin(predictors["planted"][1:]))
        for name, outcome, truth, effect in zip(NAMES, scores, truths, true, strict=True):
            found = components(outcome)
            yield "wording SD", name, truth["wording SD"], found.wording
            yield "seed SD", name, truth["seed SD"], found.seed
            yield "rows SD", name, truth["rows SD"], found.rows
            yield "reliability", name, truth["reliability"], found.reliability
            yield "gain on original", name, effect[chosen] - effect[0], gain(outcome, chosen, 0)
            yield "gain on mean", name, effect[chosen] - effect.mean(), gain(outcome, chosen)
            best = int(effect.argmax())
            yield "gain of truly best on mean", name, effect[best] - effect.mean(), gain(outcome, best)
        for name, number in (("retained / in-task", 1), ("unseen / in-task", 2)):
            over, under = truths[number]["wording SD"], truths[0]["wording SD"]
            if over or under:
                yield "ratio", name, over / under if under else math.inf, ratio(scores[number], scores[0])
        y = measured(scores[1])
        for name in ("planted", "second", "null"):
            yield "Spearman", f"{name}, retained", rho[name], spearman(predictors[name], y)
        yield "Spearman", "unseen, retained", rho["unseen"], spearman(measured(scores[2]), y)
        for a, b in (("planted", "second"), ("planted", "null"), ("second", "third")):
            found = spearman_difference(predictors[a], predictors[b], y)
            yield "Spearman difference", f"{b} - {a}", rho[b] - rho[a], found


@dataclass(frozen=True)
class Coverage:
    """covered and significant (p <= 5 %; NaN where nothing is tested): shares of the studies, in percent."""

    true: float  # the mean over studies
    value: float  # the median
    low: float
    high: float
    covered: float
    significant: float


def coverages(outcomes: list[World], draws: int) -> dict[tuple[str, str], Coverage]:
    found = defaultdict(list)
    for what, name, true, one in checks(outcomes, draws):
        near = 1e-6 * max(1.0, abs(true)) if math.isfinite(true) else 0.0
        covered = one.low - near <= true <= one.high + near
        test = math.nan if math.isnan(one.p) else one.p <= 0.05
        found[what, name].append((true, one.value, one.low, one.high, covered, test))
    result = {}
    for key, rows in found.items():
        true, value, low, high, covered, test = np.array(rows, dtype=float).T
        middle = [float(np.nanmedian(column)) for column in (value, low, high)]
        shares = float(100 * covered.mean()), float(100 * test.mean())
        result[key] = Coverage(float(true.mean()), *middle, *shares)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--draws", type=int, default=2000, help="studies in each world (default: %(default)s)"
    )
    parser.add_argument("--worlds", nargs="+", choices=worlds(), default=list(worlds()), metavar="WORLD")
    options = parser.parse_args()
    print("| world | what | of | true | median | 95 % interval (medians) | covered, % | p <= 5 %, % |")
    print("|---|---|---|---|---|---|---|---|")
    for world in options.worlds:
        for (what, name), one in coverages(worlds()[world], options.draws).items():
            ends = f"[{one.low:.2f}, {one.high:.2f}]"
            tested = "" if math.isnan(one.significant) else f"{one.significant:.1f}"
            values = f"{one.true:.2f} | {one.value:.2f} | {ends} | {one.covered:.1f} | {tested}"
            print(f"| {world} | {what} | {name} | {values} |", flush=True)


if __name__ == "__main__":
    main()
