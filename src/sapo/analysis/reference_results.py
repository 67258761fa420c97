"""Result files of the public SAPO implementation: an all_results.json per stage, a file of base scores."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json

FOLDER = re.compile(r"(\d+)-(.+)")
KEY = re.compile(r"(?:.*_)?rougeL_for_(.+)")
# What its TRACE folders are called, where that is not the data set's own name
SHORT = {"cstance": "C-STANCE", "meet": "MeetingBank", "sciqa": "ScienceQA", "numgulecm": "NumGLUE-cm"}


def stage_folders(outputs: str | Path) -> list[tuple[str, Path]]:
    """Task and folder of every stage, from folders `1-TASK`, `2-TASK` ... in the order of their numbers.

    Raises DataError when there is none, or a number is missing or there twice.
    """
    outputs = Path(outputs)
    if not outputs.is_dir():
        raise DataError(f"{outputs} is not a folder")
    found = [
        (int(name[1]), name[2], path)
        for path in outputs.iterdir()
        if path.is_dir() and (name := FOLDER.fullmatch(path.name))
    ]
    found.sort()
    if not found or [number for number, _, _ in found] != list(range(1, len(found) + 1)):
        names = ", ".join(path.name for _, _, path in found) or "none"
        raise DataError(
            f"{outputs} must hold one folder a stage, 1-TASK, 2-TASK and so on without a gap; found: {names}"
        )
    return [(task, path) for _, task, path in found]


def rouge_l_scores(path: Path) -> dict[str, float]:
    """ROUGE-L of each data set in a result file (keys `..._rougeL_for_DATASET`, percent).

    Raises DataError for a file that is missing, a value that is not a finite number, or two values for one
    data set.
    """
    content = read_json(path, finite=False)  # its losses may be NaN (fault 06); scores are checked below
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object of metrics")
    scores: dict[str, float] = {}
    for key, value in content.items():
        if not (name := KEY.fullmatch(key)):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"{path}: {key} is {value!r:.40}, not a finite number")
        if scores.setdefault(name[1], value) != value:
            raise DataError(f"{path} has two values of ROUGE-L for {name[1]}: {scores[name[1]]} and {value}")
    return scores


def score_of(task: str, scores: dict[str, float], path: Path) -> float:
    """The score of the one data set that `task` names: by its whole name, or the part before the first `_`.

    Raises DataError when there is none, or more than one.
    """
    task = SHORT.get(task, task)
    whole = [name for name in scores if name.lower() == task.lower()]
    found = whole or [name for name in scores if name.split("_")[0] == task]
    if len(found) != 1:
        what = (
            f"more than one data set called {task} ({', '.join(found)})" if found else f"no ROUGE-L of {task}"
        )
        raise DataError(f"{path} has {what}; it has: {', '.join(sorted(scores)) or 'none at all'}")
    return scores[found[0]]


def read_reference_results(
    outputs: str | Path, initial: str | Path, tasks: Sequence[str] | None = None
) -> tuple[list[str], list[float], list[list[float]]]:
    """Tasks in order, the base model's score on each, and the score matrix, row i after stage i.

    tasks: data set names in the stages' order, where the folders' names do not tell. Raises DataError for
    anything missing.
    """
    stages = stage_folders(outputs)
    if tasks and len(tasks) != len(stages):
        raise DataError(f"{len(tasks)} task names for {len(stages)} stages in {outputs}")
    names = list(tasks or (task for task, _ in stages))
    files = [Path(initial), *(folder / "all_results.json" for _, folder in stages)]
    rows: list[list[float]] = []
    for path in files:
        scores = rouge_l_scores(path)
        rows.append([score_of(name, scores, path) for name in names])
    return names, rows[0], rows[1:]


def as_table(names: Sequence[str], zero_shot: Sequence[float], scores: Sequence[Sequence[float]]) -> str:
    """The scores as text, a row a stage, a column a task."""
    import pandas as pd

    table: Any = pd.DataFrame([zero_shot, *scores], index=["base", *names], columns=list(names))
    return str(table.to_string(float_format="{:.2f}".format))
