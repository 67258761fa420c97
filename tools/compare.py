"""Methods side by side, over seeds and test rows: means, intervals, and tests of the differences.

Not a stage of the pipeline.

usage: python tools/compare.py REV_OR_EXPERIMENT ... [--metric log_likelihood] [--original-prompt]
"""

import argparse
import math
import sys
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from sapo.analysis.answer_metrics import METRICS, Metric
from sapo.analysis.comparison import Group, difference, grouped, read_run
from sapo.analysis.intervals import ALONE, Estimate, holm
from sapo.artifacts.scores import Kind
from sapo.runtime.command import one_line, with_advice
from sapo.runtime.errors import DataError

NAMES = ("AP", "BWT", "FWT")
FEW = 5  # seeds below which a t interval hangs on the assumption that scores are normally distributed


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Means over seeds, and differences between methods, with 95 % intervals."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="REV_OR_EXPERIMENT",
        help="as in `dvc exp list --name-only`; `workspace`: here",
    )
    parser.add_argument("--metric", choices=METRICS, default=next(iter(METRICS)))
    parser.add_argument(
        "--original-prompt", action="store_true", help="the scores under the original instruction everywhere"
    )
    arguments = parser.parse_args()
    kind: Kind = "original" if arguments.original_prompt else "chosen"
    try:
        groups = grouped([read_run(name) for name in arguments.runs])
        lines = [*means(groups, arguments.metric, kind), "", *differences(groups, arguments.metric, kind)]
        print("\n".join(lines))
    except DataError as error:
        sys.exit(f"error: {one_line(with_advice(error))}")


def means(groups: list[Group], metric: str, kind: Kind) -> list[str]:
    """A line a method: over seeds where there are several, else over the test rows."""
    table, shown = [["", "seeds", *NAMES]], list[Estimate]()
    of = METRICS[metric]
    for group in groups:
        found = [group.mean(name, metric, kind) for name in NAMES]
        shown += found
        mark = "" if len(group.runs) > 1 else " *"
        table.append(
            [group.label, ",".join(map(str, sorted(group.runs))), *(_shown(one, of) + mark for one in found)]
        )
    lines = [f"{of.label}, {kind} prompt, mean and 95 % interval", *_aligned(table)]
    if any(one.low == one.high for one in shown):
        lines.append(f"{ALONE}.")
    sizes = {len(group.runs) for group in groups}
    if 1 in sizes:
        lines.append(
            "* one seed: the interval (bootstrap) covers the choice of test rows alone. "
            "Seeds: nothing can be concluded."
        )
    if sizes - {1}:
        lines.append("several seeds: Student's t over seeds.")
    if any(1 < size < FEW for size in sizes):
        lines.append(
            f"fewer than {FEW} seeds: too few to see whether scores are normally distributed, as t assumes."
        )
    made = {
        str([run.summary.versions, run.summary.device]) for group in groups for run in group.runs.values()
    }
    if len(made) > 1:
        lines.append(
            "the runs were made with different library versions or devices: "
            "part of a difference may be theirs."
        )
    return lines


def differences(groups: list[Group], metric: str, kind: Kind) -> list[str]:
    """A line for each pair of methods, continual-learning metric and test; p corrected for all of them."""
    rows: list[tuple[list[str], Estimate]] = []
    notes: list[str] = []
    for b, a in combinations(groups, 2):
        tests, why_not = difference(a, b, NAMES, metric, kind)
        rows += [([f"{a.label} - {b.label}", name, how], tests[how][name]) for name in NAMES for how in tests]
        notes += why_not
    if len(groups) < 2:
        return ["one method: nothing to compare."]
    corrected = holm([estimate.p for _, estimate in rows])
    table = [["difference", "", "over", "", "p", "p (Holm)"]]
    for (cells, estimate), p in zip(rows, corrected, strict=True):
        table.append([*cells, _shown(estimate, METRICS[metric]), _p(estimate.p), _p(p)])
    lines = [*_aligned(table), *dict.fromkeys(notes)]
    if any("row scores are missing" in note for note in notes):
        lines.append("`dvc pull` fetches the row scores of a run that was pushed; else run it again.")
    lines.append(f"Holm: corrected for the {sum(e.p == e.p for _, e in rows)} tests of this table.")
    return lines


def _shown(estimate: Estimate, metric: Metric) -> str:
    value, low, high = (metric.shown(one, "+") for one in (estimate.value, estimate.low, estimate.high))
    return f"{value} [no interval]" if math.isnan(estimate.low) else f"{value} [{low}, {high}]"


def _p(p: float) -> str:
    return "-" if p != p else "<0.001" if p < 0.001 else f"{p:.3f}"


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


if __name__ == "__main__":
    main()
