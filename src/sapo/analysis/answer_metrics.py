"""How good an answer is. A metric is a function here, registered once.

Files, intervals, figures and compare then know it.
"""

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from sapo.runtime.errors import DataError

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer


@dataclass(frozen=True)
class Metric:
    """label: for figures, with the unit. score: of (prediction, reference), in percent; higher is better."""

    label: str
    score: Callable[[str, str], float]


@cache
def _scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer  # takes half a second, and only answers need it

    return RougeScorer(["rougeL"], use_stemmer=True)


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F1 in percent (Lin 2004) of rouge-score, words stemmed. Only for Latin letters and digits."""
    return 100 * float(_scorer().score(reference, prediction)["rougeL"].fmeasure)


def _normal(text: str) -> str:
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\s+", " ", kept).strip()


def exact_match(prediction: str, reference: str) -> float:
    """100.0 if both are the same but for case, ASCII punctuation and white space, else 0.0."""
    return 100.0 * (_normal(prediction) == _normal(reference))


METRICS = {
    "rouge_l": Metric("ROUGE-L (%)", rouge_l),
    "exact_match": Metric("exact match (%)", exact_match),
}


def row_scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, list[float]]:
    """Each metric of every row, in percent. Raises DataError for no rows or unequal counts."""
    if not references or len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions for {len(references)} references: nothing to score")
    pairs = list(zip(predictions, references, strict=True))
    return {name: [metric.score(*pair) for pair in pairs] for name, metric in METRICS.items()}
