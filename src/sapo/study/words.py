"""What the study's findings say, in plain words."""

import math
from collections.abc import Iterator, Sequence

from sapo.analysis.intervals import holm
from sapo.artifacts.study_summary import Forecast, Number, PairFindings, StudySummary
from sapo.study.findings import SAPO

# Title, unit, decimals
MEASURES = {"log_likelihood": ("log-likelihood", "nats a token", 3), "score": ("score", "%", 1)}
TOGETHER = "retained ~ unseen"
SIGNIFICANT = 0.05


def plain_words(summary: StudySummary) -> list[str]:
    """What holds at this scale and what does not: a paragraph a finding, with empty lines between."""
    paragraphs = [_spread(summary.pairs), _together(summary.pairs), _loss(summary.pairs), _rivals(summary)]
    return "\n\n".join(paragraphs).split("\n")


def _spread(pairs: Sequence[PairFindings]) -> str:
    told = []
    for measure, (title, unit, decimals) in MEASURES.items():
        kept = [pair.spread[measure]["retained"].wording for pair in pairs]
        sure = sum((one.low or 0) > 0 for one in kept)
        told.append(
            f"By the {title}, the wording of a task's instruction changes what is retained of earlier tasks "
            f"with a standard deviation of {span([one.value for one in kept], decimals)} {unit}, net of "
            f"noise; the interval excludes 0 in {sure} of {of_pairs(pairs)}."
        )
        for outcome, name in (("retained", "what is retained"), ("unseen", "unseen tasks")):
            ratios = [pair.ratios[measure][outcome] for pair in pairs if outcome in pair.ratios[measure]]
            if not ratios:
                continue
            more = sum((one.low or 0) > 1 for one in ratios)
            less = sum(one.high is not None and one.high < 1 for one in ratios)
            told.append(
                f"It changes {name} more than the task itself in {more} of {of_pairs(ratios)}, less in "
                f"{less}; the others are undecided."
            )
    return " ".join(told)


def _together(pairs: Sequence[PairFindings]) -> str:
    told = []
    for measure, (title, _, _) in MEASURES.items():
        of = [pair.together[measure][TOGETHER] for pair in pairs if TOGETHER in pair.together[measure]]
        if not of:
            return "No task was left unseen."
        sure = [one for one, p in zip(of, corrected(of), strict=True) if p < SIGNIFICANT]
        with_it = sum((one.value or 0) > 0 for one in sure)
        told.append(
            f"by the {title} together in {with_it} of {of_pairs(of)} and against each other in "
            f"{len(sure) - with_it} (Spearman {span([one.value for one in of], 2)})"
        )
    return f"The effects on earlier tasks and on unseen ones go, after correction, {'; '.join(told)}."


def _loss(pairs: Sequence[PairFindings]) -> str:
    told = []
    for outcome, name in (
        ("retained", "what is retained"),
        ("unseen", "unseen tasks"),
        ("in_task", "the task itself"),
    ):
        of = list(_forecasts(pairs, outcome))
        if not of:
            continue
        sure = [one for one in of if one.corrected is not None and one.corrected < SIGNIFICANT]
        good = sum((one.correlation.value or 0) < 0 for one in sure)
        told.append(
            f"for {name} in {good} of {of_pairs(of)}, with the opposite sign in {len(sure) - good} "
            f"(Spearman {span([one.correlation.value for one in of], 2)})"
        )
    gains = [one.over_original for one in _forecasts(pairs, "retained")]
    better = sum(one.low is not None and one.low > 0 for one in gains)
    worse = sum(one.high is not None and one.high < 0 for one in gains)
    return (
        "A low loss before the training tells, after correction, of a good log-likelihood after it "
        f"{'; '.join(told)}. Training with the wording of lowest loss, not the original, changes what is "
        f"retained by {span([one.value for one in gains], 3, '+')} nats a token: better in {better} of "
        f"{of_pairs(gains)} by the interval, worse in {worse}."
    )


def _rivals(summary: StudySummary) -> str:
    titles = ", ".join(summary.predictors[name].title for name in summary.better)
    found = f"these do better than the loss: {titles}" if titles else "none does better than the loss"
    return f"Of {len(summary.predictors) - 1} other predictors, {found}, by the rule of docs/study.md."


def _forecasts(pairs: Sequence[PairFindings], outcome: str) -> Iterator[Forecast]:
    """What the loss tells of an outcome's log-likelihood, pair by pair."""
    for pair in pairs:
        if outcome in pair.forecasts["log_likelihood"]:
            yield pair.forecasts["log_likelihood"][outcome][SAPO]


def corrected(of: Sequence[Number]) -> list[float]:
    """Holm's p of all of them; NaN where there is none."""
    return holm([math.nan if one.p is None else one.p for one in of])


def of_pairs(of: Sequence[object]) -> str:
    return "1 pair" if len(of) == 1 else f"{len(of)} pairs"


def span(values: Sequence[float | None], decimals: int, sign: str = "") -> str:
    """The least and the most of the known values, or the one that all are."""
    known = [value for value in values if value is not None]
    if not known:
        return "unknown"
    ends = [f"{value:{sign}.{decimals}f}" for value in (min(known), max(known))]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
