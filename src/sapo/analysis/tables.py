"""The tables behind the plots, one CSV file each: scores, candidates, training."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.intervals import ends
from sapo.artifacts.chosen_prompt import ChosenPrompt
from sapo.artifacts.lineage import Lineage
from sapo.artifacts.scores import StageScores
from sapo.runtime.outputs import write_text

Line = dict[str, Any]
ENDS = [f"{metric}_{end}" for metric in METRICS for end in ("low", "high")]
SCORES = ["stage", "task", *METRICS, *ENDS]
CANDIDATES = ["task", "candidate", "loss", "rows", "chosen"]
TRAINING = ["task", "step", "loss"]


def scores_table(stages: Sequence[StageScores], order: Sequence[str], cells: np.ndarray) -> list[Line]:
    """A line a stage and task. cells: each score's interval, (stages, tasks, metrics, 2)."""
    return [
        {"stage": one.stage, "task": task}
        | {metric: round(one.scores[task][metric], 4) for metric in METRICS}
        | dict(zip(ENDS, ends(cells[i, j].ravel()), strict=True))
        for i, one in enumerate(stages)
        for j, task in enumerate(order)
    ]


def candidates_table(prompts: Mapping[str, ChosenPrompt]) -> list[Line]:
    """A line for each candidate that was measured; candidate 0 is the original."""
    return [
        {
            "task": task,
            "candidate": number,
            "loss": one.loss,
            "rows": one.rows,
            "chosen": number == prompt.chosen,
        }
        for task, prompt in prompts.items()
        for number, one in enumerate(prompt.candidates)
        if one.loss is not None
    ]


def training_table(lineage: Lineage) -> list[Line]:
    """A line an optimiser step."""
    return [
        {"task": e.task, "step": step.step, "loss": step.loss} for e in lineage.tasks for step in e.history
    ]


def write_csv(path: Path, columns: Sequence[str], lines: Sequence[Line]) -> None:
    """Write a table whole or not at all."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, stream.getvalue())
