"""The report's figures (matplotlib, PNG): legible at 800 pixels' width, told apart without colour vision."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from sapo.analysis.answer_metrics import METRICS, Metric
from sapo.analysis.intervals import ALONE
from sapo.analysis.look import (
    BARS,
    CANDIDATE_LOSS,
    COLOURS,
    COVERED,
    DARK,
    LOSS,
    MARKERS,
    ORIGINAL,
    PARAPHRASE,
    SCALE,
    STAGE,
    STEP,
    TASK,
)
from sapo.analysis.tables import Line
from sapo.artifacts.scores import StageScores
from sapo.artifacts.summary import Summary
from sapo.runtime.outputs import write_bytes

plt.rcParams["text.parse_math"] = False  # a name with two $ is a name, not a formula
DRAWN = {name: metric for name, metric in METRICS.items() if metric.drawn}


def save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=9.5)
    drawn = io.BytesIO()
    # The same numbers give the same bytes
    figure.savefig(drawn, format="png", dpi=110, metadata={"Software": None})
    write_bytes(path, drawn.getvalue())
    plt.close(figure)


def caption(summary: Summary, names: Sequence[str], metrics: Mapping[str, Metric] = METRICS) -> str:
    """A line a metric: each value and its interval, and a last one that says what the intervals cover."""
    lines, alone = [], []
    for metric, of in metrics.items():
        values, intervals = summary.values(metric, "chosen"), summary.intervals(metric, "chosen")
        shown = [f"{name} {of.shown(values[name])} {of.ends(intervals[name])}" for name in names]
        lines.append(f"{of.label}: {', '.join(shown)}")
        if any(None not in intervals[name] and intervals[name][0] == intervals[name][1] for name in names):
            alone = [ALONE]
    return "\n".join([*lines, COVERED, *alone])


def style(index: int) -> dict[str, Any]:
    """Colour and marker of the task with this number."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def matrix(path: Path, stages: Sequence[StageScores], evaluated: Sequence[str], title: str) -> None:
    """The task x task matrix, one panel a metric with its own scale: a row a stage, a column a task.

    The first row is the base model's. evaluated: the trained tasks in their order, then the probes.
    """
    trained, names = len(stages) - 1, _named(stages, evaluated)
    size = (max(8.0, 2.8 + 0.95 * len(evaluated)), 1.6 + len(DRAWN) * (0.5 + 0.42 * len(stages)))
    figure, axes = plt.subplots(len(DRAWN), 1, figsize=size, layout="constrained", sharex=True, squeeze=False)
    for axis, (name, metric) in zip(axes[:, 0], DRAWN.items(), strict=True):
        values = np.array([[one.scores[task][name] for task in evaluated] for one in stages])
        least, most = metric.scale or (values.min(), values.max())
        image = axis.imshow(values, cmap=SCALE, vmin=least, vmax=most, aspect="auto")
        axis.set(title=metric.title, ylabel=STAGE)
        if trained < len(evaluated):
            axis.axvline(trained - 0.5, color="white", linewidth=4)
        axis.set_xticks(range(len(evaluated)), names, rotation=20, ha="right")
        axis.set_yticks(range(len(stages)), [one.stage for one in stages])
        for (i, j), value in np.ndenumerate(values):
            dark = value < least + DARK * (most - least)
            axis.text(
                j,
                i,
                metric.in_cell(value),
                ha="center",
                va="center",
                color="white" if dark else "black",
                # Row 0 is the base model: task j is trained in row j + 1
                fontweight="bold" if i > j and j < trained else "normal",
            )
            if i == j + 1 and j < trained:
                place = (j - 0.47, i - 0.47)
                axis.add_patch(Rectangle(place, 0.94, 0.94, fill=False, edgecolor="white", linewidth=2))
        figure.colorbar(image, ax=axis, label=metric.unit)
    axes[-1, 0].set_xlabel(TASK)
    save(figure, path, f"{title}\nframed: just trained; bold: trained so far")


def _named(stages: Sequence[StageScores], evaluated: Sequence[str]) -> list[str]:
    """The tasks' names as they are shown: a probe is said to be one."""
    trained = len(stages) - 1
    return [task if place < trained else f"{task} (probe)" for place, task in enumerate(evaluated)]


def scores(
    path: Path, stages: Sequence[StageScores], evaluated: Sequence[str], intervals: np.ndarray, title: str
) -> None:
    """Each task's score over the stages, one panel a metric; a filled marker where the task has been trained.

    evaluated: the trained tasks in their order, then the probes, whose lines are broken. intervals: (stages,
    tasks, metrics, 2), the ends of each score's bar; NaN for none.
    """
    size = (max(8.0, 4 + 0.9 * len(stages)), 1.4 + 2.5 * len(DRAWN))
    figure, axes = plt.subplots(len(DRAWN), 1, figsize=size, layout="constrained", sharex=True, squeeze=False)
    for axis, (name, metric) in zip(axes[:, 0], DRAWN.items(), strict=True):
        ends = intervals[:, :, list(METRICS).index(name)]
        for index, (task, label) in enumerate(zip(evaluated, _named(stages, evaluated), strict=True)):
            values = np.array([one.scores[task][name] for one in stages])
            # Beside one another: bars would hide bars
            places = np.arange(len(stages)) + 0.09 * (index - (len(evaluated) - 1) / 2)
            bars = np.abs(ends[:, index].T - values)
            look = style(index)
            axis.errorbar(
                places,
                values,
                bars,
                fmt="none",
                ecolor=look["color"],
                elinewidth=1.3,
                capsize=2.5,
                alpha=0.6,
            )
            axis.plot(
                places,
                values,
                label=label,
                markersize=7,
                markerfacecolor="white",
                linewidth=1.6,
                linestyle="-" if index < len(stages) - 1 else "--",
                **look,
            )
            axis.plot(places[index + 1 :], values[index + 1 :], linestyle="none", markersize=7, **look)
        axis.set(title=metric.title, ylabel=metric.unit)
        if metric.scale:
            least, most = metric.scale
            axis.set_ylim(least - 0.03 * (most - least), most + 0.03 * (most - least))
        axis.grid(alpha=0.3)
    axes[-1, 0].set_xticks(range(len(stages)), [one.stage for one in stages], rotation=20, ha="right")
    axes[-1, 0].set_xlabel(STAGE)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, title=TASK, loc="outside right center")
    save(figure, path, f"{title}\nfilled marker: the task has been trained\n{BARS}")


def candidates(path: Path, lines: Sequence[Line], order: Sequence[str], title: str) -> None:
    """Every candidate's loss before its task was trained, one panel and scale a task.

    The chosen candidate is ringed.
    """
    figure, axes = plt.subplots(
        len(order), 1, figsize=(8, 1.3 + 0.95 * len(order)), layout="constrained", squeeze=False
    )
    for axis, task in zip(axes[:, 0], order, strict=True):
        own = [row for row in lines if row["task"] == task]
        every = max((row["rows"] for row in own), default=0)
        _dots(
            axis,
            [row for row in own if row["candidate"] > 0 and row["rows"] == every],
            "paraphrase",
            marker="o",
            s=46,
            color=PARAPHRASE,
            edgecolor=COLOURS[0],
        )
        dropped = [row for row in own if row["rows"] < every]
        if dropped:
            _dots(
                axis, dropped, "dropped by the search:\nmean of fewer rows", marker="x", s=40, color="#666666"
            )
        _dots(
            axis, [row for row in own if row["candidate"] == 0], "original", marker="s", s=62, color=ORIGINAL
        )
        _dots(
            axis,
            [row for row in own if row["chosen"]],
            "chosen",
            marker="o",
            s=230,
            color="none",
            edgecolor="black",
            linewidth=1.8,
        )
        if not own:
            axis.text(0.5, 0.5, "no candidate was scored", ha="center", va="center", transform=axis.transAxes)
        axis.set_yticks([0], [task])
        axis.set_ylim(-1, 1)
        axis.grid(axis="x", alpha=0.3)
        axis.margins(x=0.06)
    axes[-1, 0].set_xlabel(f"{CANDIDATE_LOSS}; each task has its own scale")
    found = {
        label: handle
        for axis in axes[:, 0]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(found.values(), found.keys(), loc="outside right center")
    save(figure, path, f"{title}\ncandidate instructions")


def _dots(axis: Axes, lines: Sequence[Line], label: str, **style: Any) -> None:
    axis.scatter([row["loss"] for row in lines], [0] * len(lines), label=label, zorder=3, **style)


def training(path: Path, lines: Sequence[Line], order: Sequence[str], title: str) -> None:
    """Each task's training loss at every optimiser step."""
    figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for index, task in enumerate(order):
        own = [row for row in lines if row["task"] == task]
        axis.plot(
            [row["step"] for row in own],
            [row["loss"] for row in own],
            label=task,
            markersize=4,
            linewidth=1.4,
            **style(index),
        )
    axis.set(xlabel=STEP, ylabel=LOSS, ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend(title="task")
    save(figure, path, f"{title}\ntraining loss")
