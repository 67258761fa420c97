"""Runs side by side as tables: means with intervals, and differences with tests."""

import math
import re
from collections.abc import Sequence
from itertools import combinations

from sapo.analysis.answer_metrics import METRICS, Metric
from sapo.analysis.comparison import Group, difference
from sapo.analysis.continual import OF_PROBES
from sapo.analysis.intervals import ALONE, Estimate, holm
from sapo.artifacts.scores import Kind
from sapo.runtime.errors import DataError

NAMES = ("AP", "BWT", "FWT", "forgetting")
PER_TOKEN = "nats a token"  # the unit of log-likelihoods
FEW = 5  # seeds below which a t interval hangs on the assumption that scores are normally distributed
Pair = tuple[Group, Group]  # the first minus the second


def every(groups: Sequence[Group]) -> list[Pair]:
    """Each pair of methods once, the later minus the earlier."""
    return [(a, b) for b, a in combinations(groups, 2)]


def asked(groups: Sequence[Group], labels: Sequence[Sequence[str]]) -> list[Pair]:
    """The pairs of these labels. Raises DataError for one that no group has."""
    found = {group.label: group for group in groups}
    if odd := sorted({label for pair in labels for label in pair} - found.keys()):
        raise DataError(f"--difference: no run is of {', '.join(odd)}; there are: {', '.join(found)}")
    return [(found[a], found[b]) for a, b in labels]


def names_of(groups: Sequence[Group]) -> list[str]:
    """The columns: what is unseen too, where the sequence has probes; AP alone where it has one task.

    With one task nothing is transferred: BWT, FWT and forgetting are 0 by definition, and not to be tested.
    """
    probed = all(run.has_probes for group in groups for run in group.runs.values())
    several = any(len(group.order) > 1 for group in groups)
    return [*(NAMES if several else NAMES[:1]), *(OF_PROBES if probed else ())]


def _names_of_differences(groups: Sequence[Group]) -> list[str]:
    """The columns of differences: from one base model, one in `unseen` is the same as in `unseen_change`."""
    one_base = len(_bases(groups)) < 2
    return [name for name in names_of(groups) if not (one_base and name == "unseen_change")]


def _bases(groups: Sequence[Group]) -> set[str]:
    return {run.summary.base_fingerprint for group in groups for run in group.runs.values()}


def _on_units(groups: Sequence[Group], metric: str) -> list[str]:
    """A line where the numbers may not be in the same unit."""
    if METRICS[metric].unit != PER_TOKEN or len(_bases(groups)) < 2:
        return []
    return [f"several base models: {PER_TOKEN} are not comparable where their tokenizers differ."]


def means(groups: Sequence[Group], metric: str, kind: Kind) -> list[str]:
    """Two lines a method: its mean with the interval over test rows, and over seeds."""
    names = names_of(groups)
    table, shown = [["", "seeds", "interval over", *names]], list[Estimate]()
    of = METRICS[metric]
    for group in groups:
        about = [group.label, ",".join(map(str, sorted(group.runs)))]
        by_rows = group.over_rows(metric, kind)
        if by_rows is not None:
            shown += (found := [by_rows[name] for name in names])
            table.append([*about, "test rows", *(_shown(one, of) for one in found)])
        if by_rows is None or len(group.runs) > 1:
            shown += (found := [group.over_seeds(name, metric, kind) for name in names])
            table.append([*about, "seeds", *(_shown(one, of) for one in found)])
    lines = [f"{of.label}, {kind} prompt, mean over seeds and 95 % interval", *_aligned(table)]
    if any(one.low == one.high for one in shown):
        lines.append(f"{ALONE}.")
    lines += _on_units(groups, metric)
    lines.append("test rows: bootstrap, for these trainings. seeds: Student's t.")
    sizes = {len(group.runs) for group in groups}
    if 1 in sizes:
        lines.append("one seed: nothing can be concluded about other seeds.")
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


def differences(pairs: Sequence[Pair], metric: str, kind: Kind) -> list[str]:
    """A line for each pair of methods, continual-learning metric and test; p corrected for all of them."""
    rows: list[tuple[list[str], Estimate]] = []
    notes: list[str] = []
    for a, b in pairs:
        names = _names_of_differences([a, b])
        tests, why_not = difference(a, b, names, metric, kind)
        rows += [([f"{a.label} - {b.label}", name, how], tests[how][name]) for name in names for how in tests]
        notes += why_not
    if not pairs:
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


def markdown(groups: Sequence[Group], pairs: Sequence[Pair], metric: str, kind: Kind) -> list[str]:
    """The means and differences as two tables, a line a method or pair: over seeds where there are several.

    Else over the test rows, which is said. A line below them where the numbers may not be comparable.
    """
    names = names_of(groups)
    head = ["method", "seeds", *(name.replace("_", " ") for name in names)]
    lines = [head, ["---"] * len(head)]
    for group in groups:
        alone = len(group.runs) == 1 and group.over_rows(metric, kind)
        found = alone or {name: group.over_seeds(name, metric, kind) for name in names}
        seeds = ", ".join(map(str, sorted(group.runs))) + (" (test rows)" if alone else "")
        lines.append(
            [_code(group.label), seeds, *(_shown(found[name], METRICS[metric], "") for name in names)]
        )
    columns = _names_of_differences(groups)
    head = ["difference", "over", *(name.replace("_", " ") for name in columns)]
    changes = [head, ["---"] * len(head)]
    for a, b in pairs:
        tests, _ = difference(a, b, columns, metric, kind)
        for how, found in tests.items():
            cells = [_shown(found[name], METRICS[metric]) for name in columns]
            changes.append([f"{_code(a.label)} - {_code(b.label)}", how, *cells])
    tables = [f"| {' | '.join(line)} |" if line else "" for line in [*lines, [], *changes]]
    return [*tables, *(["", *units] if (units := _on_units(groups, metric)) else [])]


def _code(text: str) -> str:
    """A line of text as code in a cell of a Markdown table."""
    text = text.replace("|", r"\|")
    if "`" not in text:
        return f"`{text}`"
    fence = "`" * (1 + max(map(len, re.findall("`+", text))))
    return f"{fence} {text} {fence}"


def _shown(estimate: Estimate, metric: Metric, sign: str = "+") -> str:
    value, low, high = (metric.shown(one, sign) for one in (estimate.value, estimate.low, estimate.high))
    return f"{value} [no interval]" if math.isnan(estimate.low) else f"{value} [{low}, {high}]"


def _p(p: float) -> str:
    return "-" if p != p else "<0.001" if p < 0.001 else f"{p:.3f}"


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
