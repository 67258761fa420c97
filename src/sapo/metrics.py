"""How good an answer is (ROUGE-L, exact match), and what a sequence of tasks did to a model (AP, BWT, FWT)."""

import math
import re
import string
from collections.abc import Sequence
from statistics import fmean

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


def answer_scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The mean of each metric over the rows, in percent. Raises DataError for no rows or unequal counts."""
    if not references or len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions for {len(references)} references: nothing to score")
    pairs = list(zip(predictions, references, strict=True))
    return {"rouge_l": fmean(rouge_l(*pair) for pair in pairs), "exact_match": fmean(exact_match(*pair) for pair in pairs)}


def continual_metrics(zero_shot: Sequence[float], scores: Sequence[Sequence[float]]) -> dict[str, float]:
    """AP, BWT, FWT and their kin from R[i][j], the score on task j after stage i (percent; N x N), and zero_shot, R[0].

    AP: mean of the last row. BWT: mean over stages i = 2..N of mean_{j<i}(R[i,j] - R[j,j]). FWT: mean over i = 1..N-1 of
    mean_{j>i}(R[i,j] - R[0,j]) (Shi et al. 2026, arXiv 2606.01967). BWT_final: BWT of the last row alone (Lopez-Paz and
    Ranzato 2017). forgetting: mean over j < N of max_{i<N} R[i,j] - R[N,j], i from j on (Chaudhry et al. 2018).
    new_task: mean of R[j,j]. With one task nothing is transferred: 0.0.
    Raises DataError for a wrong shape or a score that is missing or not finite.
    """
    n = len(scores)
    if n == 0 or any(len(row) != n for row in [zero_shot, *scores]):
        raise DataError(
            f"expected a square matrix and one zero-shot score a task, found rows of {[len(row) for row in [zero_shot, *scores]]}"
        )
    if not all(isinstance(value, int | float) and math.isfinite(value) for row in [zero_shot, *scores] for value in row):
        raise DataError("a score is missing or not finite: evaluate again")
    metrics = {"AP": fmean(scores[-1]), "new_task": fmean(scores[j][j] for j in range(n))}
    if n == 1:
        return metrics | {"BWT": 0.0, "FWT": 0.0, "BWT_final": 0.0, "forgetting": 0.0}
    return metrics | {
        "BWT": fmean(fmean(scores[i][j] - scores[j][j] for j in range(i)) for i in range(1, n)),
        "FWT": fmean(fmean(scores[i][j] - zero_shot[j] for j in range(i + 1, n)) for i in range(n - 1)),
        "BWT_final": fmean(scores[-1][j] - scores[j][j] for j in range(n - 1)),
        "forgetting": fmean(max(scores[i][j] for i in range(j, n - 1)) - scores[-1][j] for j in range(n - 1)),
    }
