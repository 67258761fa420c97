"""How good an answer is (ROUGE-L, exact match), and what a sequence of tasks did to a model (AP, BWT, FWT)."""

import math
import re
import string
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from sapo.files import DataError

SCORER = RougeScorer(["rougeL"], use_stemmer=True)
METRICS = ("rouge_l", "exact_match")


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F1 in percent (Lin 2004) of rouge-score, words stemmed. It knows Latin letters and digits only."""
    return 100 * SCORER.score(reference, prediction)["rougeL"].fmeasure


def _normal(text: str) -> str:
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\s+", " ", kept).strip()


def exact_match(prediction: str, reference: str) -> float:
    """100.0 if both are the same but for case, ASCII punctuation and white space, else 0.0."""
    return 100.0 * (_normal(prediction) == _normal(reference))


def row_scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, list[float]]:
    """Each metric of every row, in percent. Raises DataError for no rows or unequal counts."""
    if not references or len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions for {len(references)} references: nothing to score")
    pairs = list(zip(predictions, references, strict=True))
    return {"rouge_l": [rouge_l(*pair) for pair in pairs], "exact_match": [exact_match(*pair) for pair in pairs]}


def answer_scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The mean of each metric over the rows, in percent. Raises DataError for no rows or unequal counts."""
    return {metric: fmean(scores) for metric, scores in row_scores(predictions, references).items()}


def continual_metrics(zero_shot: Sequence[float], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """AP, BWT, FWT and their kin from R[i][j], the score on task j after stage i (percent; N x N), and zero_shot, R[0].

    Raises DataError for a wrong shape or a score that is missing or not finite.
    """
    n = len(scores)
    if n == 0 or any(len(row) != n for row in [zero_shot, *scores]):
        raise DataError(
            f"expected a square matrix and one zero-shot score a task, found rows of {[len(row) for row in [zero_shot, *scores]]}"
        )
    if not all(isinstance(value, int | float) and math.isfinite(value) for row in [zero_shot, *scores] for value in row):
        raise DataError("a score is missing or not finite: evaluate again")
    return {name: float(value) for name, value in transfer(np.array([zero_shot, *scores], dtype=float)).items()}


def transfer(scores: np.ndarray) -> dict[str, Any]:
    """The continual-learning metrics of scores (N + 1, N, ...), the base model's first; each has the shape (...).

    AP: mean of the last row. BWT: mean over stages i = 2..N of mean_{j<i}(R[i,j] - R[j,j]). FWT: mean over i = 1..N-1 of
    mean_{j>i}(R[i,j] - R[0,j]) (Shi et al. 2026, arXiv 2606.01967). BWT_final: BWT of the last row alone (Lopez-Paz and
    Ranzato 2017). forgetting: mean over j < N of max_{i<N} R[i,j] - R[N,j], i from j on (Chaudhry et al. 2018).
    new_task: mean of R[j,j]. With one task nothing is transferred: 0.0.
    """
    zero_shot, r = scores[0], scores[1:]
    n = len(r)
    new = r[np.arange(n), np.arange(n)]
    metrics = {"AP": r[-1].mean(0), "new_task": new.mean(0)}
    if n == 1:
        return metrics | {name: np.zeros_like(metrics["AP"]) for name in ("BWT", "FWT", "BWT_final", "forgetting")}
    return metrics | {
        "BWT": np.mean([(r[i, :i] - new[:i]).mean(0) for i in range(1, n)], axis=0),
        "FWT": np.mean([(r[i, i + 1 :] - zero_shot[i + 1 :]).mean(0) for i in range(n - 1)], axis=0),
        "BWT_final": (r[-1, :-1] - new[:-1]).mean(0),
        "forgetting": np.mean([r[j : n - 1, j].max(0) - r[-1, j] for j in range(n - 1)], axis=0),
    }
