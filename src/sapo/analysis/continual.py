"""What a sequence of tasks did to a model: AP, BWT, FWT and the metrics that belong to them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sapo.runtime.errors import DataError

NAMES = ("AP", "new_task", "BWT", "FWT", "BWT_final", "forgetting")


def continual_metrics(zero_shot: Sequence[float], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """AP, BWT, FWT and others from R[i][j], the score on task j after stage i (higher is better; N x N).

    zero_shot: R[0], the base model's scores. Raises DataError for a wrong shape or a score that is missing or
    not finite.
    """
    n = len(scores)
    if n == 0 or any(len(row) != n for row in [zero_shot, *scores]):
        raise DataError(
            "expected a square matrix and one zero-shot score a task, "
            f"found rows of {[len(row) for row in [zero_shot, *scores]]}"
        )
    if not all(
        isinstance(value, int | float) and math.isfinite(value)
        for row in [zero_shot, *scores]
        for value in row
    ):
        raise DataError("a score is missing or not finite: evaluate again")
    return {
        name: float(value) for name, value in transfer(np.array([zero_shot, *scores], dtype=float)).items()
    }


def transfer(scores: np.ndarray) -> dict[str, Any]:
    """The continual-learning metrics of scores (N + 1, N, ...), the base model's first; each of shape (...).

    AP: mean of the last row. BWT: mean over stages i = 2..N of mean_{j<i}(R[i,j] - R[j,j]). FWT: mean over
    i = 1..N-1 of mean_{j>i}(R[i,j] - R[0,j]) (Shi et al. 2026, arXiv 2606.01967). BWT_final: BWT of the last
    row alone (Lopez-Paz and Ranzato 2017). forgetting: mean over j < N of max_{i<N} R[i,j] - R[N,j], i from j
    on (Chaudhry et al. 2018). new_task: mean of R[j,j]. With one task nothing is transferred: 0.0.
    """
    zero_shot, r = scores[0], scores[1:]
    n = len(r)
    new = r[np.arange(n), np.arange(n)]
    metrics = {"AP": r[-1].mean(0), "new_task": new.mean(0)}
    if n == 1:
        return metrics | {
            name: np.zeros_like(metrics["AP"]) for name in ("BWT", "FWT", "BWT_final", "forgetting")
        }
    return metrics | {
        "BWT": np.mean([(r[i, :i] - new[:i]).mean(0) for i in range(1, n)], axis=0),
        "FWT": np.mean([(r[i, i + 1 :] - zero_shot[i + 1 :]).mean(0) for i in range(n - 1)], axis=0),
        "BWT_final": (r[-1, :-1] - new[:-1]).mean(0),
        "forgetting": np.mean([r[j : n - 1, j].max(0) - r[-1, j] for j in range(n - 1)], axis=0),
    }
