"""What a sequence of tasks did to a model: AP, BWT, FWT and the metrics that belong to them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sapo.runtime.errors import DataError

NAMES = ("AP", "new_task", "BWT", "FWT", "BWT_final", "forgetting")
OF_PROBES = ("unseen", "unseen_change")  # only where a sequence has probes


def continual_metrics(
    zero_shot: Sequence[float], scores: Sequence[Sequence[float]], probes: int = 0
) -> dict[str, float]:
    """AP, BWT, FWT and others from R[i][j], the score on task j after stage i (higher is better; N x N).

    zero_shot: R[0], the base model's scores. Each row ends with the scores on so many `probes`, tasks that
    are never trained. Raises DataError for a wrong shape or a score that is missing or not finite.
    """
    n = len(scores)
    if n == 0 or any(len(row) != n + probes for row in [zero_shot, *scores]):
        raise DataError(
            f"expected a square matrix, {probes} probes and one zero-shot score for each, "
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
    """The continual-learning metrics of scores (N + 1, N + P, ...); each of shape (...).

    The first row is the base model's; the last P columns are those of probes, tasks that are never trained.

    AP: mean of the last row. BWT: mean over stages i = 2..N of mean_{j<i}(R[i,j] - R[j,j]). FWT: mean over
    i = 1..N-1 of mean_{j>i}(R[i,j] - R[0,j]) (Shi et al. 2026, arXiv 2606.01967). BWT_final: BWT of the last
    row alone (Lopez-Paz and Ranzato 2017). forgetting: mean over j < N of max_{i<N} R[i,j] - R[N,j], i from j
    on (Chaudhry et al. 2018). new_task: mean of R[j,j]. With one task nothing is transferred: 0.0. unseen:
    mean of the last row over the probes; unseen_change: that minus the base model's. Without probes there is
    neither.
    """
    n = len(scores) - 1
    zero_shot, r, probes = scores[0, :n], scores[1:, :n], scores[:, n:]
    new = r[np.arange(n), np.arange(n)]
    metrics = {"AP": r[-1].mean(0), "new_task": new.mean(0)}
    if probes.shape[1]:
        metrics |= {"unseen": probes[-1].mean(0), "unseen_change": (probes[-1] - probes[0]).mean(0)}
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
