"""Answer metrics against values worked by hand and shared."""

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laboratory import REPOSITORY
from parity import FOLDER, TOLERANCE, worked
from sapo.analysis import answer_metrics
from sapo.analysis.answer_metrics import METRICS, PERCENT, Answer, Metric, normal
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


def row_scores(
    predictions: Sequence[str], references: Sequence[str | Sequence[str]]
) -> dict[str, list[float]]:
    """The scores of what was answered; the right answers are all as likely."""
    scores = answer_metrics.row_scores(predictions, references, [-1.0] * len(predictions), "t")
    assert scores.pop("log_likelihood") == [-1.0] * len(predictions)
    return scores


def rouge_l(prediction: str, reference: str) -> float:
    return answer_metrics.rouge_l(Answer(prediction, [reference], 0.0))


def exact_match(prediction: str, reference: str) -> float:
    return answer_metrics.exact_match(Answer(prediction, [reference], 0.0))


@pytest.mark.parametrize(("prediction", "reference", "rouge", "exact"), ANSWERS)
def test_answer_metrics_match_values_worked_by_hand(
    prediction: str, reference: str, rouge: float, exact: float
) -> None:
    assert rouge_l(prediction, reference) == pytest.approx(rouge, abs=TOLERANCE)
    assert exact_match(prediction, reference) == exact


# Answers that are the same, and answers that are not, though nothing but marks tells them apart
SAME = """\
yes. = Yes | yes: = yes | “yes” = yes | **yes** = yes | `yes` = yes | _yes_ = yes
- yes = yes | 支持。 = 支持 | （A） = A | (A) = A | A. = A | A) = a | - A = A | Ａ = A
支持，反对 = 支持、反对 | don’t = don't | I'm = im | e-mail = email | covid-19 = covid19
U.S. = US | a.m. = am | C#. = c# | "C++" = C++ | 1,000 = 1000
1,234,567.5 = 1234567.5 | 1,2 = 1, 2 | [1,2] = 1 2 | 5. = 5 | ５ = 5 | $5 = 5
−5 = -5 | **-5** = -5 | -. = - | “+” = + | (-) = -
"""  # noqa: RUF001
DIFFERENT = """\
+ = - | -5 = 5 | - 5 = 5 | (-5) = 5 | x = -5 = 5 | 1.5 = 15 | .5 = 5 | -.5 = .5
1,5 = 15 | 1,00 = 100 | 1/2 = 12 | 10:30 = 1030 | 1-2 = 12 | 5 - 3 = 5 3 | 2*3 = 23
2**3 = 2*3 | 2(3) = 23 | {1}{2} = {12} | 1_2 = 12 | x/y = xy | x-y = xy | f(x) = fx
x^2 = x2 | x² = x2 | x2-y2 = x2y2 | 1e-3 = 1e3 | p & q = p q | a|b = ab | ~p = p
C++ = C | C# = C | A+ = A- | A- = A | 5% = 5 | 5‰ = 5 | 5° = 5 | €5 = 5 | A/B = AB
A:B = AB | ５．５ = 55 | １／２ = 12 | ＋ = － | －５ = 5 | ! = ? | ... = ???? | $ = $$ | < = >
* = / | 一。 = 二。 | é = e | हि = ह | -$5 = $5 | - $5 = $5 | -√2 = √2 | -(3) = 3
-(x+1) = x+1 | x = - 5 = x = 5 | it is - 5 = it is 5 | —5 = 5 | ‐5 = 5 | ٫5 = 5 | 5٪ = 5 | 0,500 = 0500
"""  # noqa: RUF001


def pairs(table: str) -> list[tuple[str, str]]:
    rows = [row.rsplit(" = ", 1) for line in table.splitlines() for row in line.split(" | ")]
    return [(one, other) for one, other in rows]


@pytest.mark.parametrize(("one", "other"), pairs(SAME))
def test_case_white_space_and_ordinary_punctuation_do_not_count(one: str, other: str) -> None:
    assert exact_match(one, other) == exact_match(f" {other}\n", one) == 100


@pytest.mark.parametrize(("one", "other"), pairs(DIFFERENT))
def test_marks_that_carry_meaning_count(one: str, other: str) -> None:
    assert exact_match(one, other) == exact_match(other, one) == 0


marks = st.text(st.characters(categories=["P", "S", "Z"]), min_size=1, max_size=6)
words = st.text(st.characters(categories=["L", "N", "P", "S", "Z"]), max_size=12)


@given(text=marks.filter(str.strip))
def test_a_text_of_marks_alone_is_itself_and_never_empty(text: str) -> None:
    assert exact_match(text, text) == exact_match(f"\n{text} ", text) == 100
    assert exact_match(text, "") == exact_match("", text) == exact_match(" ", text) == 0


@given(text=words)
def test_a_normal_form_is_its_own_normal_form_but_for_bare_marks(text: str) -> None:
    once = normal(text)
    assert bool(once) == bool(text.strip())
    assert exact_match(text, text) == 100


@given(number=st.decimals(0, 10**6, places=2).map(str), other=st.decimals(0, 10**6, places=2).map(str))
def test_numbers_are_equal_only_where_they_are_written_alike(number: str, other: str) -> None:
    assert exact_match(f"{number}.", other) == 100 * (number == other)
    assert exact_match(f"-{number}", number) == exact_match(f"{number}%", number) == 0
    assert exact_match(number.replace(".", "/"), number.replace(".", "")) == 0


@given(
    word=st.from_regex(r"[a-z]{2,8}( [a-z]{2,8})?", fullmatch=True),
    before=st.text(" '\"`([{*_.\u201c\u300c", max_size=3),
    after=st.text(" '\"`)]}*_.,:;!?\u3002\uff01\uff1a\u201d\u300d", max_size=3),
)
def test_punctuation_around_words_does_not_count(word: str, before: str, after: str) -> None:
    assert exact_match(f"{before}{word.title()}{after}", word) == 100


@pytest.mark.parametrize("nothing", ["", " ", "\n\t"])
def test_an_empty_answer_is_right_where_the_reference_is_empty_and_nowhere_else(nothing: str) -> None:
    right = {"rouge_l": [100], "exact_match": [100], "rouge_1": [100]}
    assert row_scores([nothing], [""]) == row_scores([""], [nothing]) == right
    wrong = {"rouge_l": [0, 0, 0], "exact_match": [0, 0, 0], "rouge_1": [0, 0, 0]}
    assert row_scores(["a", nothing, "?"], [nothing, "a", nothing]) == wrong


def test_the_best_reference_counts_for_each_metric_apart() -> None:
    scores = row_scores(["dark red", "", "no"], [["red", "the very dark red", "blue"], ["none", ""], ["yes"]])
    assert scores["rouge_l"] == pytest.approx([2 / 3 * 100, 100, 0])
    assert scores["exact_match"] == [0, 100, 0]
    assert row_scores(["Red."], [("dark red", "red")]) == row_scores(["Red."], ["red"])


def test_every_row_has_its_own_scores_in_order() -> None:
    result = row_scores([row[0] for row in ANSWERS], [row[1] for row in ANSWERS])
    assert result.keys() == METRICS.keys() - {"log_likelihood"}
    assert result["rouge_l"] == pytest.approx([row[2] for row in ANSWERS], abs=TOLERANCE)
    assert result["exact_match"] == [row[3] for row in ANSWERS]


def test_a_metric_that_is_registered_is_scored_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def shorter(answer: Answer) -> float:
        return 100.0 * (len(answer.prediction) <= len(answer.references[0]))

    monkeypatch.setitem(METRICS, "shorter", Metric("no longer than the reference", PERCENT, shorter))
    assert row_scores(["a", "bbb"], ["aa", "b"])["shorter"] == [100.0, 0.0]


def test_rouge_1_counts_words_in_whatever_order() -> None:
    scores = row_scores(["b a", "she was running", "支持"], ["a b", "run she", "支持"])
    assert scores["rouge_1"] == pytest.approx([100, 80, 0])  # P = 2/3, R = 1
    assert scores["rouge_l"] == pytest.approx([50, 40, 0])


def test_a_log_likelihood_is_no_percentage_and_one_that_is_not_finite_is_an_error() -> None:
    likelihoods = [-1.25, -7.5]
    assert (
        answer_metrics.row_scores(["a", "b"], ["a", "c"], likelihoods, "t")["log_likelihood"] == likelihoods
    )
    metric = METRICS["log_likelihood"]
    assert (metric.label, metric.scale) == ("log-likelihood (nats a token)", None)
    assert (metric.shown(-1.25), metric.shown(0.25, "+"), metric.in_cell(-1.25)) == (
        "-1.250",
        "+0.250",
        "-1.25",
    )
    assert metric.ends([-1.5, None]) == "[-1.500, -]"
    for bad in (math.nan, -math.inf):
        with pytest.raises(
            DataError, match=r"^mood: log_likelihood of test row 1 is (nan|-inf): .*model\.dtype"
        ):
            answer_metrics.row_scores(["a", "b"], ["a", "c"], [-1.0, bad], "mood")
    with pytest.raises(DataError, match=r"^mood: 2 predictions and 1 log-likelihoods for 2 references"):
        answer_metrics.row_scores(["a", "b"], ["a", "c"], [-1.0], "mood")


def test_fault_20_one_row_is_enough_to_score() -> None:
    assert row_scores(["A."], ["A"]) == {"rouge_l": [100.0], "exact_match": [100.0], "rouge_1": [100.0]}


@pytest.mark.parametrize(
    ("predictions", "references"), [([], []), (["A"], []), (["A"], ["A", "B"]), ([], ["A"])]
)
def test_fault_04_no_rows_or_unequal_counts_are_an_error_and_not_a_zero(
    predictions: list[str], references: list[str]
) -> None:
    with pytest.raises(
        DataError, match=f"{len(predictions)} predictions .* for {len(references)} references"
    ):
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
    assert half["exact_match"] == half["rouge_l"] == half["rouge_1"] == [100.0, 0.0] * 50


def test_fault_21_metrics_need_no_tokenizer() -> None:
    answers = "from sapo.analysis.answer_metrics import row_scores; row_scores(['a'], ['a'], [0.0], 't')"
    code = f"import sys; {answers}; print({{'transformers', 'tokenizers', 'torch'}} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
