"""Answer metrics against values worked by hand and shared."""

import os
import subprocess
import sys
from typing import Any

import pytest

from laboratory import REPOSITORY
from parity import FOLDER, TOLERANCE, worked
from sapo.analysis.answer_metrics import METRICS, Metric, exact_match, rouge_l, row_scores
from sapo.runtime.errors import DataError

# prediction, reference, ROUGE-L, exact match; ROUGE-L = 2PR / (P + R) of the longest common subsequence
ANSWERS = [
    ("positive", "positive", 100.0, 100.0),
    ("Positive.", "positive", 100.0, 100.0),
    ("negative", "positive", 0.0, 0.0),
    ("", "positive", 0.0, 0.0),
    ("\nB\n", "B", 100.0, 100.0),
    ("The answer is A", "A", 40.0, 0.0),  # P = 1/4, R = 1
    ("He runs quickly", "she was running quick", 100 * 2 / 7, 0.0),  # run: P = 1/3, R = 1/4
    ("9 apples", "9", 100 * 2 / 3, 0.0),
    ("New York City", "new  york-city", 100.0, 0.0),  # punctuation is removed, not replaced by a space
    ("don't stop", "dont stop", 40.0, 100.0),
    ("支持", "支持", 0.0, 100.0),  # ROUGE-L sees Latin letters and digits only
]


@pytest.mark.parametrize(("prediction", "reference", "rouge", "exact"), ANSWERS)
def test_answer_metrics_match_values_worked_by_hand(
    prediction: str, reference: str, rouge: float, exact: float
) -> None:
    assert rouge_l(prediction, reference) == pytest.approx(rouge, abs=TOLERANCE)
    assert exact_match(prediction, reference) == exact


def test_every_row_has_its_own_scores_in_order() -> None:
    result = row_scores([row[0] for row in ANSWERS], [row[1] for row in ANSWERS])
    assert result.keys() == METRICS.keys()
    assert result["rouge_l"] == pytest.approx([row[2] for row in ANSWERS], abs=TOLERANCE)
    assert result["exact_match"] == [row[3] for row in ANSWERS]


def test_a_metric_that_is_registered_is_scored_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shorter = Metric("no longer than the reference (%)", lambda a, b: 100.0 * (len(a) <= len(b)))
    monkeypatch.setitem(METRICS, "shorter", shorter)
    assert row_scores(["a", "bbb"], ["aa", "b"])["shorter"] == [100.0, 0.0]


def test_fault_20_one_row_is_enough_to_score() -> None:
    assert row_scores(["A."], ["A"]) == {"rouge_l": [100.0], "exact_match": [100.0]}


@pytest.mark.parametrize(
    ("predictions", "references"), [([], []), (["A"], []), (["A"], ["A", "B"]), ([], ["A"])]
)
def test_fault_04_no_rows_or_unequal_counts_are_an_error_and_not_a_zero(
    predictions: list[str], references: list[str]
) -> None:
    with pytest.raises(DataError, match=f"{len(predictions)} predictions for {len(references)} references"):
        row_scores(predictions, references)


@pytest.mark.parametrize("case", worked("answer_metrics.json") or [None])
def test_answer_metrics_match_the_shared_worked_values(case: dict[str, Any] | None) -> None:
    if case is None:
        pytest.skip(f"no worked values in {FOLDER}")
    assert rouge_l(case["prediction"], case["reference"]) == pytest.approx(case["rougeL"], abs=TOLERANCE)
    assert exact_match(case["prediction"], case["reference"]) == pytest.approx(
        case["exact_match"], abs=TOLERANCE
    )


def test_fault_21_one_scorer_serves_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(*_: Any, **__: Any) -> None:
        raise AssertionError("a scorer a row")

    assert rouge_l("a", "a") == 100  # makes the one scorer
    monkeypatch.setattr("rouge_score.rouge_scorer.RougeScorer", another)
    half = row_scores(["a b", "c"] * 50, ["a b", "d"] * 50)
    assert half == {"rouge_l": [100.0, 0.0] * 50, "exact_match": [100.0, 0.0] * 50}


def test_fault_21_metrics_need_no_tokenizer() -> None:
    answers = "from sapo.analysis.answer_metrics import row_scores; row_scores(['a'], ['a'])"
    code = f"import sys; {answers}; print({{'transformers', 'tokenizers', 'torch'}} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
