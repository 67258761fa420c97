"""Runs of the pipeline at Git revisions and DVC experiments, brought together by method: what src/compare.py shows."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sapo.files import DataError
from sapo.statistics import Estimate, Table, over_seeds, row_intervals, row_tables, rows_difference, seeds_difference

# Settings that tell no runs apart: the seed, and what changes time and memory alone
ALIKE = {"seed", "launch", "batch_tokens", "checkpoints", "gradient_checkpointing", "concurrency"}


@dataclass(frozen=True)
class Run:
    """One run: metrics/cl.json, its settings (dotted name -> value), and prompt -> row scores, where these can be had."""

    name: str
    metrics: dict[str, Any]
    settings: dict[str, Any]
    order: list[str]
    rows: dict[str, Table] | None

    def value(self, name: str, metric: str, prompt: str) -> float:
        """One continual-learning metric. Raises DataError when it is missing or not finite."""
        place = self.metrics if prompt == "chosen" else self.metrics.get("original_prompt", {})
        value = place.get(metric, {}).get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"{self.name}: {metric} {name} is {value!r:.40}, not a finite number")
        return float(value)


def read_run(name: str) -> Run:
    """The run at a Git revision or of a DVC experiment, or in the `workspace`.

    Row scores come from DVC's cache or remote; without them a run has its metrics alone. Raises DataError for anything else.
    """
    params = yaml.safe_load(_read("params.yaml", name))
    order = list(params["sequence"]["tasks"])
    try:
        metrics = json.loads(_read("metrics/cl.json", name))
    except ValueError as error:
        raise DataError(f"{name}: metrics/cl.json is not valid JSON: {error}") from error
    path = f"metrics/rows/{order[-1]}.jsonl"
    try:
        lines = [json.loads(line) for line in _read(path, name).splitlines()]
    except DataError:
        rows = None
    else:
        rows = row_tables(lines, ["base", *order], order, f"{name}: {path}")
    return Run(name, metrics, _settings(params), order, rows)


def _read(path: str, revision: str) -> str:
    if revision == "workspace":
        if not Path(path).is_file():
            raise DataError(f"{path} is missing: run `dvc repro`, or fetch it (`dvc pull`)")
        return Path(path).read_text(encoding="utf-8")
    from dvc import api
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    try:
        return api.read(path, rev=revision)
    except (DvcException, SCMError, OSError) as error:
        raise DataError(f"{revision}: {path} cannot be read: {error or type(error).__name__}") from error


def _settings(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if key not in ALIKE:
            flat |= _settings(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return flat


@dataclass(frozen=True)
class Group:
    """The runs of one method (and of the same other settings), by seed."""

    label: str
    runs: dict[int, Run]

    def mean(self, name: str, metric: str, prompt: str) -> Estimate:
        """Over seeds where there are several, else the one run's value with the interval over its test rows, if any."""
        values = [run.value(name, metric, prompt) for run in self.runs.values()]
        (first, *others) = self.runs.values()
        if others or first.rows is None:
            return over_seeds(values)
        low, high = (math.nan if end is None else end for end in row_intervals(first.rows[prompt])[1][metric][name])
        return Estimate(values[0], low, high)


def grouped(runs: Sequence[Run]) -> list[Group]:
    """One group a method, in the order of the runs; settings that differ elsewhere are part of its label.

    A run that is there twice counts once. Raises DataError for runs that were tested on different rows, and for two of one
    method and seed with different results.
    """
    for field in ("sequence", "test_fingerprint", "seed", "method"):
        for run in runs:
            if field not in run.metrics:
                raise DataError(f"{run.name}: metrics/cl.json has no {field}: run `dvc repro` with this version first")
    for run in runs:
        for field in ("sequence", "test_fingerprint"):
            if run.metrics[field] != runs[0].metrics[field]:
                raise DataError(
                    f"{runs[0].name} and {run.name} cannot be compared: their {field} is "
                    f"{runs[0].metrics[field]!r:.14} and {run.metrics[field]!r:.14}"
                )
    found: dict[str, dict[int, Run]] = {}
    for run in runs:
        seeds = found.setdefault(_label(run, runs), {})
        seed = run.metrics["seed"]
        if seed in seeds and seeds[seed].metrics != run.metrics:
            raise DataError(
                f"{seeds[seed].name} and {run.name} are both {_label(run, runs)} with seed {seed}, but differ: name one of them"
            )
        seeds.setdefault(seed, run)
    return [Group(label, seeds) for label, seeds in found.items()]


def _label(run: Run, runs: Sequence[Run]) -> str:
    """The method's name and every setting that tells the run from others; a method's or model's own, from others of its name."""
    parts = [run.metrics["method"]]
    for key, value in run.settings.items():
        name = f"{key.partition('.')[0]}.name"
        peers = [other for other in runs if key == name or other.settings.get(name) == run.settings.get(name)]
        if key != "method.name" and any(other.settings.get(key) != value for other in peers):
            parts.append(f"{key}={value}")
    return " ".join(parts)


def difference(
    a: Group, b: Group, names: Sequence[str], metric: str, prompt: str
) -> tuple[dict[str, dict[str, Estimate]], list[str]]:
    """a - b in every way that the runs allow: over which variation -> name -> estimate; and why others are not there."""
    tests: dict[str, dict[str, Estimate]] = {}
    notes = []
    common = sorted(a.runs.keys() & b.runs.keys())
    mine, theirs = ([group.runs[seed] for seed in common] for group in (a, b))
    tables = [(one.rows, other.rows) for one, other in zip(mine, theirs, strict=True)]
    pairs = [(one[prompt], other[prompt]) for one, other in tables if one is not None and other is not None]
    if common and len(pairs) == len(common):
        tests["test rows"] = rows_difference([one for one, _ in pairs], [other for _, other in pairs])[metric]
    elif common:
        notes.append("row scores are missing (`dvc pull`, or run again): nothing over test rows.")

    def values(runs: Iterable[Run], name: str) -> list[float]:
        return [run.value(name, metric, prompt) for run in runs]

    if len(common) > 1:
        tests[f"{len(common)} seeds, paired"] = {
            name: over_seeds(np.subtract(values(mine, name), values(theirs, name)).tolist()) for name in names
        }
    elif not common and min(len(a.runs), len(b.runs)) > 1:
        tests[f"{len(a.runs)} and {len(b.runs)} seeds"] = {
            name: seeds_difference(values(a.runs.values(), name), values(b.runs.values(), name)) for name in names
        }
    else:
        notes.append(
            "fewer than two seeds to compare: a difference over test rows is one of these trainings, not of the methods."
        )
    return tests, notes
