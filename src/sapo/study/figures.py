"""The study's figures (matplotlib, PNG): losses against effects, what these consist of, all predictors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from sapo.analysis.figures import save
from sapo.analysis.look import COLOURS
from sapo.artifacts.study import OUTCOMES
from sapo.artifacts.study_summary import Forecast, Number, StudySummary
from sapo.study.findings import SAPO, means
from sapo.study.results import PairResults

UNITS = {"log_likelihood": "log-likelihood (nats a token)", "score": "exact match or ROUGE-L (%)"}
NAMES = {"in_task": "the task itself", "retained": "retained: earlier tasks", "unseen": "unseen: other tasks"}
PARTS = {"wording": "wording, net of noise", "seed": "another seed", "rows": "choice of test rows"}


def count(summary: StudySummary) -> str:
    """How much the figures are of."""
    return f"n = {summary.wordings} wordings x {len(summary.seeds)} seeds"


def predicted(
    path: Path, summary: StudySummary, results: Sequence[PairResults], measure: str, title: str
) -> None:
    """Each wording's loss before the training against its effects: a row a pair, a column an outcome."""
    outcomes = [name for name in OUTCOMES if any(name in pair.spread[measure] for pair in summary.pairs)]
    size = (1 + 3.3 * len(outcomes), 1.5 + 2.6 * len(results))
    figure, axes = plt.subplots(
        len(results), len(outcomes), figsize=size, layout="constrained", squeeze=False
    )
    for line, found, pair in zip(axes, results, summary.pairs, strict=True):
        losses = found.predictors.predictors[SAPO].values
        for axis, outcome in zip(line, outcomes, strict=True):
            if scores := found.tables(outcome, measure):
                _points(axis, losses, means(scores))
                rows = sum(table.shape[-1] for table in scores.values())
                axis.set_title(f"{_told(pair.forecasts[measure][outcome][SAPO])}; {rows} rows", fontsize=8)
            axis.grid(alpha=0.3)
            axis.set_xlabel("loss before (nats a token)", fontsize=8)
            axis.tick_params(labelsize=8)
        line[0].set_ylabel(f"{pair.pair.task}\nafter {pair.pair.after}", fontsize=9)
    for axis, outcome in zip(axes[0], outcomes, strict=True):
        axis.annotate(
            NAMES[outcome],
            (0.5, 1.16),
            xycoords="axes fraction",
            ha="center",
            fontsize=9.5,
            fontweight="bold",
        )
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    save(figure, path, f"{title}\n{UNITS[measure]} after the training, higher is better; {count(summary)}")


def _points(axis: Axes, losses: Sequence[float], by_seed: np.ndarray) -> None:
    """by_seed: (wordings, seeds)."""
    axis.vlines(losses, by_seed.min(-1), by_seed.max(-1), color="#999999", linewidth=1, zorder=1)
    centre = by_seed.mean(-1)
    axis.scatter(
        losses[1:], centre[1:], s=26, color=COLOURS[0], label="paraphrase (line: its seeds)", zorder=2
    )
    axis.scatter(losses[:1], centre[:1], s=52, marker="s", color=COLOURS[1], label="original", zorder=3)


def _told(forecast: Forecast) -> str:
    of = forecast.correlation
    if of.value is None:
        return "no correlation: all alike"
    ends = "" if of.low is None else f" [{of.low:.2f}, {of.high:.2f}]"
    return f"Spearman {of.value:.2f}{ends}"


def spreads(path: Path, summary: StudySummary, title: str) -> None:
    """The standard deviations that scores consist of: a panel a measure, three bars an outcome of a pair."""
    size = (max(7.5, 2 + 2.6 * len(summary.pairs)), 6.4)  # title and legend need their room, too
    figure, axes = plt.subplots(len(UNITS), 1, figsize=size, layout="constrained", sharex=True)
    for axis, (measure, unit) in zip(axes, UNITS.items(), strict=True):
        places, labels, edges = [], [], []
        for index, pair in enumerate(summary.pairs):
            for outcome, spread in pair.spread[measure].items():
                place = 4 * index + list(OUTCOMES).index(outcome)
                places.append(place)
                labels.append(outcome.replace("_", "-"))
                for number, (part, label) in enumerate(PARTS.items()):
                    _bar(axis, place + 0.26 * (number - 1), getattr(spread, part), number, label)
            edges.append((4 * index + 1, f"{pair.pair.task}\nafter {pair.pair.after}"))
        axis.set_ylabel(f"SD, {unit}", fontsize=8.5)
        axis.grid(axis="y", alpha=0.3)
        axis.set_xticks(places, labels, fontsize=8.5)
    for place, label in edges:
        axes[-1].annotate(
            label, (place, -0.12), xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=9
        )
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    save(figure, path, f"{title}\nwhat the scores' spread consists of, with 95 % intervals; {count(summary)}")


def _bar(axis: Axes, place: float, of: Number, index: int, label: str) -> None:
    if of.value is None:
        return
    axis.bar(place, of.value, width=0.24, color=COLOURS[index], label=label)
    if of.low is not None and of.high is not None:
        ends = [[max(of.value - of.low, 0)], [max(of.high - of.value, 0)]]
        axis.errorbar(place, of.value, ends, fmt="none", ecolor="black", elinewidth=1, capsize=2)


def predictors(path: Path, summary: StudySummary, title: str) -> None:
    """Each predictor's correlation with each outcome's log-likelihood: a panel an outcome, a dot a pair."""
    measure = "log_likelihood"
    outcomes = [name for name in OUTCOMES if any(name in pair.spread[measure] for pair in summary.pairs)]
    figure, axes = plt.subplots(
        1,
        len(outcomes),
        figsize=(2 + 2.9 * len(outcomes), 3.8),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    names = list(summary.pairs[0].forecasts[measure]["in_task"])
    for axis, outcome in zip(axes[0], outcomes, strict=True):
        axis.axvline(0, color="black", linewidth=0.8)
        for index, pair in enumerate(summary.pairs):
            for row, name in enumerate(names):
                of = pair.forecasts[measure].get(outcome, {}).get(name)
                if of is None or of.correlation.value is None:
                    continue
                low, high = of.correlation.low, of.correlation.high
                value, place = of.correlation.value, row + 0.2 * (index - (len(summary.pairs) - 1) / 2)
                label = f"{pair.pair.task} after {pair.pair.after}" if row == 0 else None
                look = {"color": COLOURS[index % len(COLOURS)], "marker": "os^Dv"[index % 5]}
                if low is not None and high is not None:
                    axis.hlines(place, low, high, color=look["color"], linewidth=1.2)
                axis.plot(value, place, linestyle="none", markersize=6, label=label, **look)
        axis.set(title=NAMES[outcome], xlim=(-1, 1))
        axis.set_xlabel("Spearman's correlation", fontsize=9)
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].set_yticks(range(len(names)), [summary.predictors[name].title for name in names])
    axes[0, 0].invert_yaxis()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    told = "with the log-likelihood after the training; left of 0: a low value goes with a good outcome"
    save(figure, path, f"{title}\n{told}\nlines: 95 % intervals; {count(summary)}")
