"""Runs at Git revisions, of DVC experiments and in files of results, by method, for tools/compare.py."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.intervals import (
    Estimate,
    Table,
    over_rows,
    over_seeds,
    row_tables,
    rows_difference,
    seeds_difference,
)
from sapo.artifacts.chosen_prompt import ChosenPrompt, prompt_path
from sapo.artifacts.results import RunResults
from sapo.artifacts.run_record import EFFORT
from sapo.artifacts.scores import Kind, RowScores, rows_path
from sapo.artifacts.summary import DETAILS, Summary
from sapo.config import BASE
from sapo.runtime.command import one_line
from sapo.runtime.errors import ArtifactError, DataError
from sapo.runtime.files import parse_yaml, sha256_json

# Settings that tell no runs apart: the seed, another program's, what is time and memory, and where things are
# on a machine or follow from other settings. A file of paraphrases (paraphrase.path) is what was run.
ALIKE = {
    *("seed", "launch", "study", "tracking", "data.url", "paraphrase.concurrency", "sequence.path"),
    *("model.path", "model.paths", "model.adapter_path", "model.adapter_paths"),
    *(f"{section}.{field}" for section in ("selection", "train", "evaluate") for field in EFFORT),
}
LONGEST = 60  # characters of a setting in a label


@dataclass(frozen=True)
class Run:
    """One run. settings: dotted name -> value. rows: prompt -> row scores, where they could be had.

    order: the tasks as they were trained. instructions: what each was trained with, where it was asked for
    and could be had.
    """

    name: str
    summary: Summary
    settings: dict[str, Any]
    rows: dict[Kind, Table] | None
    order: list[str]
    instructions: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def has_probes(self) -> bool:
        return bool(self.settings.get("sequence.probes"))

    def value(self, name: str, metric: str, kind: Kind) -> float:
        """One continual-learning metric. Raises DataError when it is missing."""
        try:
            return self.summary.values(metric, kind)[name]
        except KeyError:
            raise DataError(
                f"{self.name}: {DETAILS} has no {name} of {metric} under the {kind} prompt"
            ) from None


def read_run(name: str, instructions: bool = False) -> Run:
    """The run at a Git revision or of a DVC experiment, in the `workspace`, or in a file of results.

    The last is a name that ends in .json. Row scores at a revision come from DVC's cache or remote; without
    them a run has its metrics alone. So do `instructions`, which a file of results does not hold. Raises
    DataError for anything else.
    """
    if name.endswith(".json"):
        return run_in_file(Path(name))
    try:
        return _run(name, instructions)
    except ArtifactError as error:
        if name == "workspace":
            raise
        raise DataError(f"{error}; a commit does not change: run it again with this version") from None


def run_in_file(path: Path) -> Run:
    """The run whose results the file holds. Raises DataError for anything else."""
    if not path.is_file():
        raise DataError(f"{path} is missing")
    try:
        results = RunResults.read(path)
    except ArtifactError as error:  # no stage of the pipeline makes it anew
        raise DataError(f"{error}; it has to be written again with this version") from None
    order, evaluated = _tasks(results.settings, str(path))
    rows = row_tables(results.rows, [BASE, *order], evaluated, str(path))
    return Run(path.stem, results.summary, telling(results.settings), rows, order)


def _tasks(params: Any, where: str) -> tuple[list[str], list[str]]:
    """The tasks in the order in which they were trained, and all that every stage answered."""
    try:
        order = list(params["sequence"]["tasks"].keys())
        return order, [*order, *params["sequence"].get("probes", [])]
    except (LookupError, TypeError, AttributeError):
        raise DataError(f"{where} names no tasks under sequence") from None


def _run(name: str, instructions: bool) -> Run:
    where = "" if name == "workspace" else f"{name}: "
    params = parse_yaml(_read("params.yaml", name), f"{where}params.yaml")
    order, evaluated = _tasks(params, f"{where}params.yaml")
    path = rows_path(order[-1])
    summary = Summary.parse(_read(str(DETAILS), name), f"{where}{DETAILS}")
    try:
        text = _read(str(path), name)
    except DataError:
        rows = None
    else:
        lines = [
            RowScores.parse(line, f"{where}{path}, line {n}") for n, line in enumerate(text.splitlines(), 1)
        ]
        rows = row_tables(lines, [BASE, *order], evaluated, f"{where}{path}")
    asked = _instructions(name, order) if instructions else {}
    return Run(name, summary, telling(params), rows, order, asked)


def _instructions(name: str, order: Sequence[str]) -> dict[str, str]:
    """What each task was trained with; without those that cannot be had."""
    found = {}
    for task in order:
        path = str(prompt_path(task))
        try:
            found[task] = ChosenPrompt.parse(_read(path, name), f"{name}: {path}").instruction
        except DataError:
            continue
    return found


def _read(path: str, revision: str) -> str:
    if revision == "workspace":
        if not Path(path).is_file():
            raise ArtifactError(f"{path} is missing")
        return Path(path).read_text(encoding="utf-8")
    from dvc import api
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    try:
        return str(api.read(path, rev=revision))
    except (DvcException, SCMError, OSError) as error:
        raise DataError(f"{revision}: {path} cannot be read: {error or type(error).__name__}") from error


def telling(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of the settings that tell runs apart."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if name not in ALIKE:
            flat |= telling(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return flat


@dataclass(frozen=True)
class Group:
    """The runs of one method (and of the same other settings), by seed."""

    label: str
    runs: dict[int, Run]

    @property
    def order(self) -> list[str]:
        """The tasks in the order in which they were trained."""
        return next(iter(self.runs.values())).order

    def scores(self, metric: str, kind: Kind) -> dict[str, np.ndarray] | None:
        """Task -> its mean score over the test rows, (seeds, stages); None where row scores are missing."""
        number = list(METRICS).index(metric)
        tables = [run.rows[kind] for run in self.runs.values() if run.rows is not None]
        if len(tables) < len(self.runs):
            return None
        return {task: np.stack([table[task][:, number].mean(-1) for table in tables]) for task in tables[0]}

    def over_seeds(self, name: str, metric: str, kind: Kind) -> Estimate:
        """The mean over the seeds, with an interval where there are several."""
        return over_seeds([run.value(name, metric, kind) for run in self.runs.values()])

    def over_rows(self, metric: str, kind: Kind) -> dict[str, Estimate] | None:
        """Each continual-learning metric's mean over the seeds with its interval over test rows.

        None where a run's row scores are missing.
        """
        tables = [run.rows[kind] for run in self.runs.values() if run.rows is not None]
        return over_rows(tables)[metric] if len(tables) == len(self.runs) else None


def grouped(runs: Sequence[Run]) -> list[Group]:
    """One group a method, in the order of the runs; settings that differ elsewhere are part of its label.

    So is the base model where equal settings had another one. A run that is there twice counts once. Raises
    DataError for runs that were tested on different rows, and for two of one method and seed with different
    results.
    """
    for run in runs:
        for field in ("sequence", "test_fingerprint"):
            first, other = getattr(runs[0].summary, field), getattr(run.summary, field)
            if first != other:
                raise DataError(
                    f"{runs[0].name} and {run.name} cannot be compared: "
                    f"their {field} is {first!r:.14} and {other!r:.14}"
                )
    found: dict[str, dict[int, Run]] = {}
    for run, label in zip(runs, _labels(runs), strict=True):
        seeds = found.setdefault(label, {})
        seed = run.summary.seed
        if seed in seeds and seeds[seed].summary != run.summary:
            raise DataError(
                f"{seeds[seed].name} and {run.name} are both {label} with seed {seed}, "
                "but differ: name one of them"
            )
        seeds.setdefault(seed, run)
    return [Group(label, seeds) for label, seeds in found.items()]


def _labels(runs: Sequence[Run]) -> list[str]:
    labels = [_label(run, runs) for run in runs]
    bases = [run.summary.base_fingerprint for run in runs]
    several = Counter(label for label, _ in set(zip(labels, bases, strict=True)))
    return [
        f"{label} base={one_line(base)[:12]}" if several[label] > 1 else label
        for label, base in zip(labels, bases, strict=True)
    ]


def _label(run: Run, runs: Sequence[Run]) -> str:
    """The method's name and every setting that tells the run from others.

    The settings of a method, model or other named group are compared only among runs with the same one.
    """
    parts = [_told(run.summary.method)]
    for key, value in run.settings.items():
        name = f"{key.partition('.')[0]}.name"
        peers = [other for other in runs if key == name or other.settings.get(name) == run.settings.get(name)]
        if key != "method.name" and any(other.settings.get(key) != value for other in peers):
            parts.append(_told(f"{key}={value}"))
    return " ".join(parts)


def _told(text: str) -> str:
    """The text as one line of bounded length; a hash of it keeps apart what would then be the same."""
    line = one_line(text)
    return line if line == text and len(line) <= LONGEST else f"{line[:LONGEST]}...{sha256_json(text)[:8]}"


def difference(
    a: Group, b: Group, names: Sequence[str], metric: str, kind: Kind
) -> tuple[dict[str, dict[str, Estimate]], list[str]]:
    """a - b in every way that the runs allow, and why other ways are missing.

    The estimates: over which variation -> name -> estimate.
    """
    tests: dict[str, dict[str, Estimate]] = {}
    notes = []
    common = sorted(a.runs.keys() & b.runs.keys())
    mine, theirs = ([group.runs[seed] for seed in common] for group in (a, b))
    tables = [(one.rows, other.rows) for one, other in zip(mine, theirs, strict=True)]
    pairs = [(one[kind], other[kind]) for one, other in tables if one is not None and other is not None]
    if common and len(pairs) == len(common):
        tests["test rows"] = rows_difference([one for one, _ in pairs], [other for _, other in pairs])[metric]
    elif common:
        notes.append("row scores are missing: nothing over test rows.")

    def values(runs: Iterable[Run], name: str) -> list[float]:
        return [run.value(name, metric, kind) for run in runs]

    if len(common) > 1:
        tests[f"{len(common)} seeds, paired"] = {
            name: over_seeds(np.subtract(values(mine, name), values(theirs, name)).tolist()) for name in names
        }
    elif not common and min(len(a.runs), len(b.runs)) > 1:
        tests[f"{len(a.runs)} and {len(b.runs)} seeds"] = {
            name: seeds_difference(values(a.runs.values(), name), values(b.runs.values(), name))
            for name in names
        }
    else:
        notes.append(
            "fewer than two seeds to compare: "
            "a difference over test rows is one of these trainings, not of the methods."
        )
    return tests, notes
