"""Answer metrics and AP, BWT, FWT against worked values."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.runtime.errors import DataError
from sapo.analysis.metrics import answer_scores, continual_metrics, exact_match, rouge_l

PARITY = Path(os.environ.get("SAPO_PARITY") or Path(__file__).parents[3] / "shared" / "parity")
TOLERANCE = 1e-4

# prediction, reference, ROUGE-L, exact match; ROUGE-L = 2PR / (P + R) of the longest common subsequence of stems
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

# zero-shot scores, R, expected
SEQUENCES: list[tuple[list[float], list[list[float]], dict[str, float]]] = [
    (
        [10, 20],
        [[50, 30], [40, 80]],
        {"AP": 60, "BWT": -10, "FWT": 10, "BWT_final": -10, "forgetting": 10, "new_task": 65},
    ),
    (
        [10, 20, 30],
        [[50, 26, 28], [56, 70, 36], [41, 64, 90]],
        {
            "AP": 65,
            "BWT": (6 + (-9 - 6) / 2) / 2,
            "FWT": ((6 - 2) / 2 + 6) / 2,
            "BWT_final": (-9 - 6) / 2,
            "forgetting": (15 + 6) / 2,  # the best score on the first task came one stage later
            "new_task": 70,
        },
    ),
    (
        [76.4827, 75.8262, 4.5241],
        [[79.8776, 85.8912, 11.6032], [100, 88.1517, 7.7024], [94.7548, 96.0744, 10.8594]],
        {"AP": 67.2295, "BWT": 15.7612, "FWT": 5.8752},
    ),
]


def parity(name: str) -> list[dict[str, Any]]:
    path = PARITY / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


untimed = settings(deadline=None)  # how long a test takes depends on the machine
scores = st.floats(0, 100)
sizes = st.integers(2, 6)


@st.composite
def sequences(draw: st.DrawFn) -> tuple[list[float], list[list[float]]]:
    n = draw(sizes)
    row = st.lists(scores, min_size=n, max_size=n)
    return draw(row), draw(st.lists(row, min_size=n, max_size=n))


@pytest.mark.parametrize(("prediction", "reference", "rouge", "exact"), ANSWERS)
def test_answer_metrics_match_values_worked_by_hand(prediction: str, reference: str, rouge: float, exact: float) -> None:
    assert rouge_l(prediction, reference) == pytest.approx(rouge, abs=TOLERANCE)
    assert exact_match(prediction, reference) == exact


def test_answer_scores_are_means_over_all_rows() -> None:
    result = answer_scores([row[0] for row in ANSWERS], [row[1] for row in ANSWERS])
    assert result["rouge_l"] == pytest.approx(sum(row[2] for row in ANSWERS) / len(ANSWERS), abs=TOLERANCE)
    assert result["exact_match"] == pytest.approx(sum(row[3] for row in ANSWERS) / len(ANSWERS), abs=TOLERANCE)


def test_fault_20_one_row_is_enough_to_score() -> None:
    assert answer_scores(["A."], ["A"]) == {"rouge_l": 100.0, "exact_match": 100.0}


@pytest.mark.parametrize(("predictions", "references"), [([], []), (["A"], []), (["A"], ["A", "B"]), ([], ["A"])])
def test_fault_04_no_rows_or_unequal_counts_are_an_error_and_not_a_zero(predictions: list[str], references: list[str]) -> None:
    with pytest.raises(DataError, match=f"{len(predictions)} predictions for {len(references)} references"):
        answer_scores(predictions, references)


@pytest.mark.parametrize(("zero_shot", "matrix", "expected"), SEQUENCES)
def test_sequence_metrics_match_values_worked_by_hand(
    zero_shot: list[float], matrix: list[list[float]], expected: dict[str, float]
) -> None:
    result = continual_metrics(zero_shot, matrix)
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("case", parity("answer_metrics.json") or [None])
def test_answer_metrics_match_the_shared_worked_values(case: dict[str, Any] | None) -> None:
    if case is None:
        pytest.skip(f"no worked values in {PARITY}")
    assert rouge_l(case["prediction"], case["reference"]) == pytest.approx(case["rougeL"], abs=TOLERANCE)
    assert exact_match(case["prediction"], case["reference"]) == pytest.approx(case["exact_match"], abs=TOLERANCE)


@pytest.mark.parametrize(
    "case", parity("cl_metrics.json") or [None], ids=lambda case: f"{len(case['scores'])}_tasks" if case else ""
)
def test_sequence_metrics_match_the_shared_worked_values(case: dict[str, Any] | None) -> None:
    if case is None:
        pytest.skip(f"no worked values in {PARITY}")
    result = continual_metrics(case["zero_shot"], case["scores"])
    assert {name: result[name] for name in case["expected"]} == pytest.approx(case["expected"], abs=TOLERANCE)


@untimed
@given(score=scores, n=sizes)
def test_a_model_that_never_changes_transfers_and_forgets_nothing(score: float, n: int) -> None:
    result = continual_metrics([score] * n, [[score] * n] * n)
    assert [result[name] for name in ("BWT", "FWT", "BWT_final", "forgetting")] == pytest.approx([0] * 4)
    assert [result["AP"], result["new_task"]] == pytest.approx([score] * 2)


@untimed
@given(sequence=sequences())
def test_ap_is_the_mean_of_the_last_row_and_depends_on_no_other(sequence: tuple[list[float], list[list[float]]]) -> None:
    zero_shot, matrix = sequence
    last = matrix[-1]
    assert continual_metrics(zero_shot, matrix)["AP"] == pytest.approx(sum(last) / len(last))
    others = [[0.0] * len(last)] * (len(last) - 1)
    assert continual_metrics([0.0] * len(last), [*others, last])["AP"] == pytest.approx(sum(last) / len(last))


@untimed
@given(sequence=sequences(), shift=st.floats(-50, 50))
def test_shifting_every_score_shifts_ap_and_leaves_the_transfers(
    sequence: tuple[list[float], list[list[float]]], shift: float
) -> None:
    zero_shot, matrix = sequence
    before = continual_metrics(zero_shot, matrix)
    after = continual_metrics([value + shift for value in zero_shot], [[value + shift for value in row] for row in matrix])
    for name, moved in {"AP": shift, "new_task": shift, "BWT": 0, "FWT": 0, "BWT_final": 0, "forgetting": 0}.items():
        assert after[name] == pytest.approx(before[name] + moved, abs=1e-9), name


@untimed
@given(sequence=sequences(), bad=st.sampled_from([float("nan"), float("inf"), float("-inf"), None]), data=st.data())
def test_fault_04_a_score_that_is_no_number_is_an_error_wherever_it_stands(
    sequence: tuple[list[float], list[list[float]]], bad: Any, data: st.DataObject
) -> None:
    zero_shot, matrix = sequence
    row = data.draw(st.sampled_from([zero_shot, *matrix]))
    row[data.draw(st.integers(0, len(row) - 1))] = bad
    with pytest.raises(DataError):
        continual_metrics(zero_shot, matrix)


@untimed
@given(sequence=sequences(), data=st.data())
def test_fault_04_a_missing_score_is_an_error_wherever_it_was(
    sequence: tuple[list[float], list[list[float]]], data: st.DataObject
) -> None:
    zero_shot, matrix = sequence
    data.draw(st.sampled_from([zero_shot, *matrix])).pop()
    with pytest.raises(DataError, match="square matrix"):
        continual_metrics(zero_shot, matrix)


@untimed
@given(sequence=sequences())
def test_fault_04_a_missing_stage_is_an_error(sequence: tuple[list[float], list[list[float]]]) -> None:
    zero_shot, matrix = sequence
    with pytest.raises(DataError, match="square matrix"):
        continual_metrics(zero_shot, matrix[:-1])


def test_fault_21_one_scorer_serves_all_rows_and_metrics_need_no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(*_: Any, **__: Any) -> None:
        raise AssertionError("a scorer a row")

    monkeypatch.setattr("sapo.metrics.RougeScorer", another)
    assert answer_scores(["a b", "c"] * 50, ["a b", "d"] * 50) == {"rouge_l": 50.0, "exact_match": 50.0}
    code = "import sys, sapo.metrics; print({'transformers', 'tokenizers', 'torch'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
