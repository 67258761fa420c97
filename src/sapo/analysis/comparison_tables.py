"""Runs side by side as tables: means with intervals, and differences with tests."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
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
# Of a CSV file; `minus`, `p` are empty for a mean
COLUMNS = ["metric", "unit", "prompt", "method", "minus", "seeds", "minus_seeds", "name", "over"]
COLUMNS += ["value", "low", "high", "p", "p_holm"]


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
    table, notes = means_table(groups, metric, kind)
    return [
        f"{METRICS[metric].label}, {kind} prompt, mean over seeds and 95 % interval",
        *_aligned(table),
        *notes,
    ]


def means_table(
    groups: Sequence[Group], metric: str, kind: Kind, sign: str = "+"
) -> tuple[list[list[str]], list[str]]:
    """The lines of `means` as cells, the head first, and what has to be said of them."""
    names, of = names_of(groups), METRICS[metric]
    found = _means(groups, metric, kind)
    table = [["", "seeds", "interval over", *names]]
    for group, how, estimates in found:
        cells = [_shown(estimates[name], of, sign) for name in names]
        table.append([group.label, _seeds(group), how, *cells])
    notes = []
    if any(one[name].low == one[name].high for _, _, one in found for name in names):
        notes.append(f"{ALONE}.")
    notes += _on_units(groups, metric)
    notes.append("test rows: bootstrap, for these trainings. seeds: Student's t.")
    sizes = {len(group.runs) for group in groups}
    if 1 in sizes:
        notes.append("one seed: nothing can be concluded about other seeds.")
    if any(1 < size < FEW for size in sizes):
        notes.append(
            f"fewer than {FEW} seeds: too few to see whether scores are normally distributed, as t assumes."
        )
    made = {
        str([run.summary.versions, run.summary.device]) for group in groups for run in group.runs.values()
    }
    if len(made) > 1:
        notes.append(
            "the runs were made with different library versions or devices: "
            "part of a difference may be theirs."
        )
    return table, notes


def _means(groups: Sequence[Group], metric: str, kind: Kind) -> list[tuple[Group, str, dict[str, Estimate]]]:
    """Each method's means over seeds, with intervals over test rows, over seeds, or both."""
    found: list[tuple[Group, str, dict[str, Estimate]]] = []
    for group in groups:
        by_rows = group.over_rows(metric, kind)
        if by_rows is not None:
            found.append((group, "test rows", by_rows))
        if by_rows is None or len(group.runs) > 1:
            by_seeds = {name: group.over_seeds(name, metric, kind) for name in names_of(groups)}
            found.append((group, "seeds", by_seeds))
    return found


def _seeds(group: Group) -> str:
    return ",".join(map(str, sorted(group.runs)))


def differences(pairs: Sequence[Pair], metric: str, kind: Kind) -> list[str]:
    """A line for each pair of methods, continual-learning metric and test; p corrected for all of them."""
    table, notes = differences_table(pairs, metric, kind)
    return [*_aligned(table), *notes]


def differences_table(pairs: Sequence[Pair], metric: str, kind: Kind) -> tuple[list[list[str]], list[str]]:
    """The lines of `differences` as cells, the head first, and what has to be said of them."""
    if not pairs:
        return [], ["one method: nothing to compare."]
    tested, notes = _differences(pairs, metric, kind)
    table = [["difference", "", "over", "", "p", "p (Holm)"]]
    for one in tested:
        label = f"{one.pair[0].label} - {one.pair[1].label}"
        shown = _shown(one.estimate, METRICS[metric])
        table.append([label, one.name, one.over, shown, _p(one.estimate.p), _p(one.corrected)])
    if any("row scores are missing" in note for note in notes):
        notes.append("`dvc pull` fetches the row scores of a run that was pushed; else run it again.")
    count = sum(one.estimate.p == one.estimate.p for one in tested)
    return table, [*notes, f"Holm: corrected for the {count} tests of this table."]


@dataclass(frozen=True)
class Tested:
    """A difference of a continual-learning metric, over test rows or seeds. corrected: p after Holm."""

    pair: Pair
    name: str
    over: str
    estimate: Estimate
    corrected: float


def _differences(pairs: Sequence[Pair], metric: str, kind: Kind) -> tuple[list[Tested], list[str]]:
    """All tests, and why others are missing."""
    found: list[tuple[Pair, str, str, Estimate]] = []
    notes: list[str] = []
    for pair in pairs:
        names = _names_of_differences(pair)
        tests, why_not = difference(*pair, names, metric, kind)
        found += [(pair, name, how, tests[how][name]) for name in names for how in tests]
        notes += why_not
    corrected = holm([estimate.p for *_, estimate in found])
    return [Tested(*one, p) for one, p in zip(found, corrected, strict=True)], list(dict.fromkeys(notes))


def as_csv(groups: Sequence[Group], pairs: Sequence[Pair], metric: str, kind: Kind) -> str:
    """The means and differences with all digits: a line a number."""
    about = {"metric": metric, "unit": METRICS[metric].unit, "prompt": kind}
    lines = [
        about
        | {"method": group.label, "seeds": _seeds(group), "name": name, "over": how}
        | _numbers(estimates[name])
        for group, how, estimates in _means(groups, metric, kind)
        for name in names_of(groups)
    ]
    for one in _differences(pairs, metric, kind)[0]:
        a, b = one.pair
        seeds = {"method": a.label, "minus": b.label, "seeds": _seeds(a), "minus_seeds": _seeds(b)}
        tests = _numbers(one.estimate) | _finite(p=one.estimate.p, p_holm=one.corrected)
        lines.append(about | seeds | {"name": one.name, "over": one.over} | tests)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _numbers(estimate: Estimate) -> dict[str, float]:
    return _finite(value=estimate.value, low=estimate.low, high=estimate.high)


def _finite(**values: float) -> dict[str, float]:
    """Those that are known."""
    return {name: value for name, value in values.items() if not math.isnan(value)}


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
