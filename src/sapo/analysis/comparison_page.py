"""`tools/compare.py --html`: methods side by side on one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sapo.analysis import look
from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.comparison import Group
from sapo.analysis.comparison_tables import Pair, differences_table, means_table
from sapo.analysis.tables import Line
from sapo.artifacts.scores import Kind
from sapo.config import BASE
from sapo.page import charts
from sapo.page.html import LARGEST, page
from sapo.runtime.errors import DataError
from sapo.runtime.outputs import write_text

SECTIONS = [
    ("means", "Means"),
    ("scores", "Scores"),
    ("instructions", "Instructions"),
    ("differences", "Differences"),
]


def write_comparison(
    path: Path, groups: Sequence[Group], pairs: Sequence[Pair], metric: str, kind: Kind
) -> None:
    """Write the page. pairs: whose differences are shown.

    Raises DataError, before the page is written, where it would pass LARGEST bytes.
    """
    means, about_means = means_table(groups, metric, kind, sign="")
    differences, about_differences = differences_table(pairs, metric, kind)
    lines = {group.label: found for group in groups if (found := _lines(group, metric, kind))}
    bounds = charts.scale([line for found in lines.values() for line in found], metric) if lines else (0, 1)
    text = page(
        "comparison.html.j2",
        title=f"{len(groups)} methods side by side",
        sections=SECTIONS,
        labels=[group.label for group in groups],
        metric=METRICS[metric],
        kind=kind,
        sequence=next(iter(groups[0].runs.values())).summary.sequence,
        order=groups[0].order,
        means=means,
        about_means=about_means,
        differences=differences,
        about_differences=about_differences,
        matrices={label: charts.matrix(found, metric, bounds) for label, found in lines.items()},
        stages={label: charts.stages(found, metric, bounds) for label, found in lines.items()},
        missing=[group.label for group in groups if group.label not in lines],
        about_matrix=look.MATRIX.format(metric=METRICS[metric].title),
        about_stages=look.STAGES.format(metric=METRICS[metric].title),
        instructions={task: _instructions(task, groups) for task in groups[0].order},
    )
    if (size := len(text.encode())) > LARGEST:
        raise DataError(
            f"{path} would have {size:,} bytes, at most {LARGEST:,} can be shown: name fewer runs"
        )
    write_text(path, text)


def _lines(group: Group, metric: str, kind: Kind) -> list[Line]:
    """The means over seeds as lines of scores.csv, the ends of an interval those of the seeds."""
    scores = group.scores(metric, kind) or {}
    return [
        {"stage": stage, "task": task, metric: round(float(each[:, at].mean()), 4)}
        | {f"{metric}_low": float(each[:, at].min()), f"{metric}_high": float(each[:, at].max())}
        for at, stage in enumerate([BASE, *group.order])
        for task, each in scores.items()
    ]


def _instructions(task: str, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """What each method trained the task with, each text once with its seeds."""
    found: dict[tuple[str, str], list[int]] = {}
    for group in groups:
        for seed, run in sorted(group.runs.items()):
            if task in run.instructions:
                found.setdefault((group.label, run.instructions[task]), []).append(seed)
    return [
        {"method": label, "seeds": ", ".join(map(str, seeds)), "text": text}
        for (label, text), seeds in found.items()
    ]
