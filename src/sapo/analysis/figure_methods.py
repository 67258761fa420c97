"""One figure of several methods: how each task is learned and forgotten, stage by stage."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import pyplot as plt

from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.comparison import Group
from sapo.analysis.figures import save, style
from sapo.artifacts.scores import Kind
from sapo.config import BASE
from sapo.runtime.errors import DataError


def methods(path: Path, groups: Sequence[Group], metric: str, kind: Kind) -> None:
    """Each trained task's score over the stages, a panel a method: the mean over seeds, thin lines each seed.

    Raises DataError for no methods, and for a run whose row scores are missing.
    """
    if not groups:
        raise DataError(f"{path}: no method to draw")
    size = (1.2 + 2.3 * len(groups), 3.6)
    figure, axes = plt.subplots(
        1, len(groups), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axis, group in zip(axes[0], groups, strict=True):
        scores = group.scores(metric, kind)
        if scores is None:
            raise DataError(f"{group.label}: the row scores of a run are missing: nothing to draw")
        order = group.order
        for index, task in enumerate(order):
            each = scores[task]  # seeds x stages
            look = style(index)
            if len(each) > 1:
                axis.plot(each.T, color=look["color"], linewidth=0.7, alpha=0.5)
            mean = each.mean(0)
            axis.plot(mean, label=task, markerfacecolor="white", markersize=6, linewidth=2, **look)
            axis.plot(index + 1, mean[index + 1], markersize=9, linestyle="none", **look)
        seeds = f"{len(group.runs)} seeds" if len(group.runs) > 1 else "1 seed"
        axis.set_title(f"{group.label}\n({seeds})", fontsize=10)
        axis.set_xticks(range(len(order) + 1), [BASE, *order], rotation=35, ha="right")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(METRICS[metric].label)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, title="score on", loc="outside right center")
    figure.supxlabel("after training on", fontsize=10)
    save(figure, path, "Learned (large marker) and forgotten; thin lines: single seeds")
