"""The paper's three findings, measured: of each pair, with intervals over wordings, seeds and test rows.

1. How much the wording changes: the task itself, what is retained of earlier tasks, what is answered of
tasks that have not been trained. 2. Whether these effects go together. 3. Whether the loss before the
training tells them, and whether another predictor tells them better (Shi et al. 2026, arXiv 2606.01967).
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from sapo.analysis.intervals import Estimate, holm
from sapo.artifacts.study import OUTCOMES
from sapo.artifacts.study_summary import (
    Chance,
    Forecast,
    Number,
    PairFindings,
    Spread,
    StudySummary,
)
from sapo.config import Params
from sapo.study.components import components, gain, percentile, ratio, regret
from sapo.study.correlation import spearman, spearman_difference
from sapo.study.power import power_table
from sapo.study.results import MEASURES, PairResults

SAPO = "loss"
LEVEL = 0.95
# A predictor does better than the loss where, for this outcome and measure, its mean correlation over pairs
# is the more negative one, and the corrected interval of the difference excludes 0 in two thirds of the pairs
DECIDES = ("log_likelihood", "retained")
SHARE = 2 / 3

Scores = dict[str, np.ndarray]  # task -> (wordings, seeds, rows)


def number(estimate: Estimate) -> Number:
    """The estimate to 1e-4, null for what is not finite."""
    ends = (estimate.value, estimate.low, estimate.high, estimate.p)
    value, low, high, p = (round(float(end), 4) if math.isfinite(end) else None for end in ends)
    return Number(value=value, low=low, high=high, p=p)


def summarise(params: Params, results: Sequence[PairResults]) -> StudySummary:
    """All findings. results: of the pairs of the settings, in their order."""
    pairs = corrected([findings(one) for one in results])
    record = results[0].predictors.run
    measure, outcome = DECIDES
    first = list(results[0].tables(outcome, measure).values())
    return StudySummary(
        name=params.study.name,
        method=params.method.name,
        model=params.model.name,
        sequence=params.sequence.name,
        seed=params.seed,
        wordings=params.study.wordings,
        seeds=params.study.seeds,
        pairs=pairs,
        predictors={name: of.about for name, of in results[0].predictors.predictors.items()},
        better=better(pairs),
        power=[
            Chance(
                rho=one.rho,
                wordings=one.wordings,
                seeds=one.seeds,
                power=None if math.isnan(one.power) else round(one.power, 3),
            )
            for one in power_table(components(first))
        ],
        base_fingerprint=record.training.base,
        dtype=record.training.settings.dtype,
        device=record.training.device,
        versions=record.training.versions,
    )


def findings(results: PairResults) -> PairFindings:
    """The findings of one pair; p-values are not corrected yet."""
    spread: dict[str, dict[str, Spread]] = {}
    ratios: dict[str, dict[str, Number]] = {}
    together: dict[str, dict[str, Number]] = {}
    forecasts: dict[str, dict[str, dict[str, Forecast]]] = {}
    for measure in MEASURES:
        tables = {outcome: results.tables(outcome, measure) for outcome in OUTCOMES}
        tables = {outcome: scores for outcome, scores in tables.items() if scores}  # all tasks may be learned
        spread[measure] = {outcome: spread_of(scores) for outcome, scores in tables.items()}
        own = list(tables["in_task"].values())
        ratios[measure] = {
            outcome: number(ratio(list(scores.values()), own))
            for outcome, scores in tables.items()
            if outcome != "in_task"
        }
        together[measure] = go_together(tables)
        forecasts[measure] = {outcome: forecast(results, scores) for outcome, scores in tables.items()}
    kinds = {outcome: results.tables(outcome, MEASURES[0]) for outcome in OUTCOMES}
    return PairFindings(
        pair=results.pair,
        tasks={task: table.shape[-1] for of in kinds.values() for task, table in of.items()},
        before={
            measure: {
                outcome: None if (score := results.before(outcome, measure)) is None else round(score, 4)
                for outcome in OUTCOMES
            }
            for measure in MEASURES
        },
        spread=spread,
        ratios=ratios,
        together=together,
        forecasts=forecasts,
    )


def means(scores: Scores) -> np.ndarray:
    """(wordings, seeds): the mean over tasks of their means over rows."""
    return np.asarray(np.mean([table.mean(-1) for table in scores.values()], axis=0))


def spread_of(scores: Scores) -> Spread:
    found, by_seed = components(list(scores.values())), means(scores)
    pairs = [spearman(by_seed[:, a], by_seed[:, b]) for a, b in combinations(range(by_seed.shape[1]), 2)]
    between = Estimate(math.nan, math.nan, math.nan)
    if len(pairs) == 1:
        between = pairs[0]
    elif pairs:
        between = Estimate(float(np.mean([one.value for one in pairs])), math.nan, math.nan)
    return Spread(
        wording=number(found.wording),
        seed=number(found.seed),
        rows=number(found.rows),
        noise=round(found.noise, 4),
        reliability=number(found.reliability),
        between_seeds=number(between),
    )


def go_together(tables: dict[str, Scores]) -> dict[str, Number]:
    """Correlations over wordings of retained and unseen, and of every two other tasks (without p)."""
    found = {}
    if {"retained", "unseen"} <= tables.keys():
        retained, unseen = means(tables["retained"]).mean(-1), means(tables["unseen"]).mean(-1)
        found["retained ~ unseen"] = number(spearman(retained, unseen))
    others = {
        task: table for outcome in tables if outcome != "in_task" for task, table in tables[outcome].items()
    }
    for (one, a), (other, b) in combinations(others.items(), 2):
        estimate = spearman(a.mean((1, 2)), b.mean((1, 2)))
        found[f"{one} ~ {other}"] = number(Estimate(estimate.value, estimate.low, estimate.high))
    return found


def forecast(results: PairResults, scores: Scores) -> dict[str, Forecast]:
    """What each predictor tells of one outcome."""
    outcome, values = list(scores.values()), means(scores).mean(-1)
    known = {name: of.values for name, of in results.predictors.predictors.items()}
    level = 1 - (1 - LEVEL) / max(len(known) - 1, 1)  # Bonferroni's, over the rivals
    found = {}
    for name, of in known.items():
        chosen = int(np.argmin(of))
        beyond = None if name == SAPO else number(spearman_difference(of, known[SAPO], values, level))
        found[name] = Forecast(
            correlation=number(spearman(of, values)),
            corrected=None,
            beyond_loss=beyond,
            chosen=chosen,
            over_original=number(gain(outcome, chosen, 0)),
            over_mean=number(gain(outcome, chosen)),
            percentile=round(percentile(values, chosen), 1),
            regret=round(regret(values, chosen), 4),
        )
    return found


def corrected(pairs: Sequence[PairFindings]) -> list[PairFindings]:
    """The same with Holm's p for the correlations of the loss, and for those of its rivals.

    Each of the two families holds all pairs and outcomes of one measure.
    """
    contents = [pair.model_dump() for pair in pairs]
    for measure in MEASURES:
        every = [
            (name, forecast)
            for content in contents
            for by_predictor in content["forecasts"][measure].values()
            for name, forecast in by_predictor.items()
        ]
        for is_loss in (True, False):
            family = [forecast for name, forecast in every if (name == SAPO) == is_loss]
            raw = [forecast["correlation"]["p"] for forecast in family]
            ps = holm([math.nan if p is None else p for p in raw])
            for forecast, p in zip(family, ps, strict=True):
                forecast["corrected"] = None if math.isnan(p) else round(p, 4)
    return [PairFindings.model_validate(content) for content in contents]


def better(pairs: Sequence[PairFindings]) -> list[str]:
    """The predictors that do better than the loss, by the rule of DECIDES."""
    measure, outcome = DECIDES
    tables = [pair.forecasts[measure][outcome] for pair in pairs]
    found = []
    for name in tables[0]:
        beyond = [of for table in tables if (of := table[name].beyond_loss) and of.value is not None]
        if not beyond or len(beyond) < len(tables):
            continue
        above = sum(of.low is not None and of.low > 0 for of in beyond)
        if np.mean([of.value or 0.0 for of in beyond]) > 0 and above >= SHARE * len(tables) - 1e-9:
            found.append(name)
    return found
