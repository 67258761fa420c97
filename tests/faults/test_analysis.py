"""Faults of scores: looked up, and made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer

from faulty import refuses, tell_apart
from sapo.analysis import answer_metrics
from sapo.analysis.answer_metrics import Answer, exact_match
from sapo.analysis.continual import continual_metrics
from sapo.analysis.reference_results import score_of


def test_fault_04_a_score_is_found_by_its_whole_name_or_not_at_all() -> None:
    scores = {"task195_sentiment": 80.0, "task1310_rating": 3.0, "task611_mutual": 40.0}

    def lookup_by_substring(task: str, scores: dict[str, float], _: Path) -> float:
        return next((value for name, value in scores.items() if task in name), 0.0)

    def check(lookup: Callable[[str, dict[str, float], Path], float]) -> None:
        assert lookup("task195", scores, Path("f")) == 80.0
        for wanting in ("task19", "task131", "C-STANCE"):
            assert refuses(lambda name=wanting: lookup(name, scores, Path("f"))), wanting  # type: ignore[misc]

    tell_apart(check, score_of, lookup_by_substring)

    def with_default(zero_shot: Any, scores: Any) -> dict[str, float]:
        return continual_metrics(
            [value or 0.0 for value in zero_shot], [[value or 0.0 for value in row] for row in scores]
        )

    def check_missing(metrics: Callable[[Any, Any], dict[str, float]]) -> None:
        assert metrics([1.0, 2.0], [[3.0, 4.0], [5.0, 6.0]])["AP"] == 5.5
        assert refuses(lambda: metrics([1.0, 2.0], [[3.0, 4.0], [5.0, None]]))

    tell_apart(check_missing, continual_metrics, with_default)


def test_fault_21_one_scorer_serves_all_rows_and_each_is_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made, scored = [], []
    make, score = RougeScorer.__init__, RougeScorer.score
    monkeypatch.setattr(
        RougeScorer, "__init__", lambda self, *a, **kw: (made.append(1), make(self, *a, **kw))[1]
    )
    monkeypatch.setattr(RougeScorer, "score", lambda self, *a: (scored.append(1), score(self, *a))[1])

    def row_scores(predictions: list[str], references: list[str]) -> dict[str, list[float]]:
        return answer_metrics.row_scores(predictions, references, [0.0] * len(predictions), "t")

    row_scores(["any"], ["any"])  # makes the one that there is

    def a_scorer_a_row(predictions: list[str], references: list[str]) -> dict[str, list[float]]:
        scores: dict[str, list[float]] = {"rouge_l": [], "exact_match": []}
        for prediction, reference in zip(predictions, references, strict=True):
            scorer = RougeScorer(["rougeL"], use_stemmer=True)
            scores["rouge_l"].append(100 * scorer.score(reference, prediction)["rougeL"].fmeasure)
            scores["exact_match"].append(exact_match(Answer(prediction, [reference], 0.0)))
        return scores

    def three_times(predictions: list[str], references: list[str]) -> dict[str, list[float]]:
        return [row_scores(predictions, references) for _ in range(3)][-1]

    def check(scores: Callable[[list[str], list[str]], dict[str, list[float]]]) -> None:
        made.clear()
        scored.clear()
        found = scores(["a b", "b", "x"], ["a", "b", "c"])
        assert found["rouge_l"] == pytest.approx([200 / 3, 100, 0])
        assert found["exact_match"] == [0, 100, 0]
        assert (len(made), len(scored)) == (0, 3)

    tell_apart(check, row_scores, a_scorer_a_row, three_times)
