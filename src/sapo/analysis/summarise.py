"""The continual-learning metrics of a run, each with its interval over test rows."""

from collections.abc import Sequence

import numpy as np

from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.continual import continual_metrics
from sapo.analysis.intervals import Table, check_means, row_intervals
from sapo.artifacts.scores import Kind, StageScores
from sapo.artifacts.summary import Numbers, metric_fields
from sapo.runtime.errors import OtherRunError


def summarise(
    stages: Sequence[StageScores], evaluated: Sequence[str], kind: Kind, table: Table, where: str
) -> tuple[dict[str, Numbers], np.ndarray]:
    """The continual-learning metrics and their intervals, as a summary's fields; each score's interval.

    The intervals of scores have the shape (stages, tasks, metrics, 2). evaluated: the trained tasks in their
    order, then the probes. table: the row scores, which must have the stages' means; where: their file. A
    missing score is an OtherRunError that names it.
    """
    try:
        matrices = {
            metric: [[one.under(kind)[task][metric] for task in evaluated] for one in stages]
            for metric in METRICS
        }
    except KeyError as error:
        raise OtherRunError(f"the scores under the {kind} prompt lack {error}") from error
    probes = len(evaluated) - (len(stages) - 1)
    values = {
        metric: {name: round(value, 4) for name, value in continual_metrics(zero, matrix, probes).items()}
        for metric, (zero, *matrix) in matrices.items()
    }
    check_means(table, stages, kind, where)
    cells, intervals = row_intervals(table)
    return metric_fields(values, intervals), cells
