"""What the study's findings say, in plain words."""

import math
from collections.abc import Iterator, Sequence

from sapo.analysis.intervals import holm
from sapo.artifacts.study_summary import Forecast, Number, PairFindings, StudySummary
from sapo.study.findings import SAPO

# Title, unit, decimals
MEASURES = {"log_likelihood": ("log-likelihood", "nats a token", 3), "score": ("score", "points", 1)}
NAMES = {"in_task": "the task itself", "retained": "earlier tasks", "unseen": "unseen tasks"}
TOGETHER = "retained ~ unseen"
SIGNIFICANT = 0.05


def plain_words(summary: StudySummary) -> list[str]:
    """What holds at this scale and what does not: an item of a list a question."""
    pairs = summary.pairs
    return [
        f"- **Does the wording matter?** {_matters(pairs)}",
        f"- **More for other tasks than for the task itself?** {_more(pairs)}",
        f"- **Do the effects on earlier and on unseen tasks go together?** {_together(pairs)}",
        f"- **Does a low loss before the training tell of a good outcome?** {_loss(pairs)}",
        f"- **Does another predictor tell it better?** {_rivals(summary)}",
    ]


def _matters(pairs: Sequence[PairFindings]) -> str:
    told = []
    for measure, (title, unit, decimals) in MEASURES.items():
        parts = []
        for outcome, name in NAMES.items():
            of = [pair.spread[measure][outcome].wording for pair in pairs if outcome in pair.spread[measure]]
            sure = sum((one.low or 0) > 0 for one in of)
            if of:
                values = span([one.value for one in of], decimals)
                parts.append(f"{name} by {values} (above 0 in {sure} of {of_pairs(of)})")
        told.append(f"By {title} it changes {', '.join(parts)} {unit}")
    return f"{'. '.join(told)}. These are standard deviations over wordings, net of noise."


def _more(pairs: Sequence[PairFindings]) -> str:
    told = []
    for outcome in ("retained", "unseen"):
        parts = []
        for measure, (title, _, _) in MEASURES.items():
            of = [pair.ratios[measure][outcome] for pair in pairs if outcome in pair.ratios[measure]]
            more = sum((one.low or 0) > 1 for one in of)
            less = sum(one.high is not None and one.high < 1 for one in of)
            if of:
                parts.append(f"by {title} more in {more} of {of_pairs(of)}, less in {less}")
        if parts:
            told.append(f"{NAMES[outcome].capitalize()}: {'; '.join(parts)}.")
    return f"{' '.join(told)} In the others the interval of the ratio holds 1."


def _together(pairs: Sequence[PairFindings]) -> str:
    told = []
    for measure, (title, _, _) in MEASURES.items():
        of = [pair.together[measure][TOGETHER] for pair in pairs if TOGETHER in pair.together[measure]]
        if not of:
            return "No task was left unseen."
        sure = [one for one, p in zip(of, corrected(of), strict=True) if p < SIGNIFICANT]
        with_it = sum((one.value or 0) > 0 for one in sure)
        told.append(
            f"By {title} together in {with_it} of {of_pairs(of)}, against each other in "
            f"{len(sure) - with_it} (Spearman {span([one.value for one in of], 2)})."
        )
    return f"{' '.join(told)} Counted are correlations that are significant after correction."


def _loss(pairs: Sequence[PairFindings]) -> str:
    told = []
    for outcome, name in NAMES.items():
        of = list(_forecasts(pairs, outcome))
        sure = [one for one in of if one.corrected is not None and one.corrected < SIGNIFICANT]
        good = sum((one.correlation.value or 0) < 0 for one in sure)
        if of:
            told.append(
                f"{name}: in {good} of {of_pairs(of)}, of a bad one in {len(sure) - good} "
                f"(Spearman {span([one.correlation.value for one in of], 2)})"
            )
    gains = [one.over_original for one in _forecasts(pairs, "retained")]
    better = sum(one.low is not None and one.low > 0 for one in gains)
    worse = sum(one.high is not None and one.high < 0 for one in gains)
    changed = span([one.value for one in gains], 3, "+")
    return (
        f"By log-likelihood, after correction: {'; '.join(told)}. Training with the wording of lowest loss, "
        f"not with the original, changes what is retained by {changed} nats a token: better in {better} of "
        f"{of_pairs(gains)} by the interval, worse in {worse}."
    )


def _rivals(summary: StudySummary) -> str:
    titles = ", ".join(summary.predictors[name].title for name in summary.better)
    found = f"these do: {titles}" if titles else "none does"
    return f"Of {len(summary.predictors) - 1} others {found}, by the rule of docs/study.md."


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
