"""Intervals and tests against worked values, scipy's own, and synthetic data whose truth is known."""

import json
import math
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from by_hand import scores_by_hand
from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.continual import continual_metrics
from sapo.analysis.intervals import (
    RESAMPLES,
    Table,
    check_means,
    holm,
    interval,
    over_rows,
    over_seeds,
    resampled_means,
    row_intervals,
    row_tables,
    rows_difference,
    seeds_difference,
)
from sapo.artifacts.scores import Kind, RowScores
from sapo.runtime.errors import ArtifactError, DataError, OtherRunError

untimed = settings(deadline=None, max_examples=20)  # how long a test takes depends on the machine
ORDER = ["a", "b"]


def table(seed: int, rows: int = 20, shift: float = 0.0) -> Table:
    """Two tasks' scores after three stages, correlated over stages as real rows are."""
    random = np.random.default_rng(seed)
    return {
        task: np.clip(
            random.normal(50, 20, (1, 1, rows)) + random.normal(shift, 5, (3, len(METRICS), rows)), 0, 100
        )
        for task in ORDER
    }


def line(stage: str, task: str, metrics: np.ndarray, prompt: str = "chosen") -> RowScores:
    """The scores of a task's rows after a stage, (metrics, rows)."""
    of = dict(zip(METRICS, metrics.tolist(), strict=True))
    return RowScores.model_validate({"stage": stage, "task": task, "prompt": prompt} | of)


def lines(scores: Table) -> list[RowScores]:
    return [
        line(stage, task, of[number])
        for task, of in scores.items()
        for number, stage in enumerate(["base", *ORDER])
    ]


def test_the_interval_of_a_mean_is_scipys_for_many_rows_and_wider_for_few() -> None:
    for rows, widest in ((400, 1.04), (10, 1.5)):
        scores = np.random.default_rng(3).gamma(2.0, 10.0, rows)
        one = {"a": np.broadcast_to(scores, (2, len(METRICS), rows))}
        cells, _ = row_intervals(one)
        plain = stats.bootstrap(
            (scores,), np.mean, n_resamples=20000, method="percentile", rng=0
        ).confidence_interval
        ratio = np.ptp(cells[1, 0, 0]) / (plain.high - plain.low)
        assert 0.96 < ratio < widest
        if rows == 400:
            assert cells[1, 0, 0] == pytest.approx([plain.low, plain.high], rel=0.02)
        else:
            assert ratio > 1.1


@pytest.mark.parametrize("rows", [8, 20, 60])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(rows: int) -> None:
    """Normal and right-or-wrong rows, 1000 samples each; plain percentiles of 8 rows would cover 88 %."""
    random = np.random.default_rng(rows)
    samples = random.normal(50, 10, (1000, 2, rows))
    samples[:, 1] = 100.0 * (random.random((1000, rows)) < 0.5)
    means = resampled_means({"a": samples})[
        :, 0
    ]  # as if 1000 stages of one task: drawn together, each judged on its own
    bounds = interval(means, rows)
    covered = ((bounds[..., 0] <= 50) & (bounds[..., 1] >= 50)).mean(0)
    assert (covered > 0.92).all()
    assert (covered < 0.99).all()


def test_a_row_is_drawn_for_all_stages_and_metrics_at_once() -> None:
    random = np.random.default_rng(0)
    easy = random.uniform(0, 100, 30)
    scores = {
        task: np.stack([np.stack([easy / (1 + number) for number in range(len(METRICS))])] * 3)
        + np.array([0, 7, 5])[:, None, None]
        for task in ORDER
    }
    means = resampled_means(scores)
    assert means.shape == (3, 2, len(METRICS), RESAMPLES)
    np.testing.assert_allclose(means[1] - means[0], 7)
    np.testing.assert_allclose(
        means[:, :, 0] - means[0, :, 0], 2 * (means[:, :, 1] - means[0, :, 1]) - [[[0]], [[7]], [[5]]]
    )
    assert np.corrcoef(means[0, 0, 0], means[0, 1, 0])[0, 1] == pytest.approx(
        0, abs=0.1
    )  # other tasks: other rows
    _, intervals = row_intervals(scores)
    assert intervals["rouge_l"]["BWT"] == pytest.approx(
        [-2, -2]
    )  # every row forgets 2 points: no row is to be lucky with
    low, high = intervals["rouge_l"]["AP"]
    assert low is not None
    assert high is not None
    assert high - low > 5


def test_intervals_repeat_and_one_row_has_none() -> None:
    first, second = row_intervals(table(1)), row_intervals(table(1))
    assert first[1] == second[1]
    np.testing.assert_array_equal(first[0], second[0])
    cells, intervals = row_intervals(table(1, rows=1))
    assert np.isnan(cells).all()
    assert intervals["rouge_l"]["AP"] == [None, None]


def test_a_probe_with_few_rows_decides_the_intervals_of_what_is_unseen_alone() -> None:
    trained = table(1)
    few = {"probe": np.random.default_rng(2).uniform(0, 100, (3, len(METRICS), 1))}
    plain, probed = row_intervals(trained)[1]["rouge_l"], row_intervals(trained | few)[1]["rouge_l"]
    assert {name: probed[name] for name in plain} == plain
    assert [probed[name] for name in ("unseen", "unseen_change")] == [[None, None]] * 2
    both = trained | few
    for found in (over_rows([both]), rows_difference([both], [both])):
        assert math.isfinite(found["rouge_l"]["AP"].low)
        assert math.isnan(found["rouge_l"]["unseen"].low)


@untimed
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 40))
def test_a_method_does_not_differ_from_itself(seed: int, rows: int) -> None:
    scores = table(seed, rows)
    for of_metric in rows_difference([scores], [scores]).values():
        for estimate in of_metric.values():
            assert (estimate.value, estimate.low, estimate.high, estimate.p) == (0, 0, 0, 1)
    same = over_seeds([0.0, 0.0, 0.0])
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


@untimed
@given(seed=st.integers(0, 10_000))
def test_a_difference_is_that_of_the_metrics_and_turns_its_sign(seed: int) -> None:
    one, other = table(seed), table(seed + 1)
    forth, back = rows_difference([one], [other]), rows_difference([other], [one])
    for number, metric in enumerate(METRICS):
        values = []
        for scores in (one, other):
            zero, *matrix = np.stack([of[:, number].mean(-1) for of in scores.values()], axis=1).tolist()
            values.append(continual_metrics(zero, matrix))
        for name, estimate in forth[metric].items():
            assert estimate.value == pytest.approx(values[0][name] - values[1][name])
            assert back[metric][name].value == pytest.approx(-estimate.value)
            assert back[metric][name].low == pytest.approx(-estimate.high)
            assert back[metric][name].p == pytest.approx(estimate.p)
            assert 0 < estimate.p <= 1


def test_runs_are_pooled_over_the_same_draws_of_rows() -> None:
    tables = [table(seed) for seed in (1, 2, 3)]
    alone = over_rows(tables[:1])
    for metric, intervals in row_intervals(tables[0])[1].items():
        for name, (low, high) in intervals.items():
            assert (alone[metric][name].low, alone[metric][name].high) == pytest.approx((low, high), abs=1e-4)
    pooled, each = over_rows(tables), [over_rows([one]) for one in tables]
    for metric, names in pooled.items():
        for name, estimate in names.items():
            assert estimate.value == pytest.approx(np.mean([one[metric][name].value for one in each]))
            assert estimate.low < estimate.value < estimate.high
    again, first = over_rows([tables[0]] * 3)["rouge_l"]["AP"], alone["rouge_l"]["AP"]
    assert (again.low, again.high) == pytest.approx((first.low, first.high))


def test_the_permutation_test_is_scipys_and_finds_what_is_there() -> None:
    one, other = table(1), table(2)
    other = {
        task: one[task] + np.random.default_rng(5).normal(1.5, 6, of.shape) for task, of in other.items()
    }
    found = rows_difference([one], [other])["rouge_l"]["AP"]
    differences = [(one[task] - other[task])[-1, 0] for task in ORDER]

    def statistic(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return a.mean(axis) + b.mean(axis)

    signs = np.random.default_rng(0).choice([-1, 1], (20000, 2, 20))
    drawn = np.abs((signs * np.array(differences)).mean(-1).sum(-1))
    expected = (drawn >= abs(sum(d.mean() for d in differences))).mean()
    assert found.p == pytest.approx(expected, abs=0.03)
    single = stats.permutation_test(
        (differences[0],), lambda x, axis: x.mean(axis), permutation_type="samples", rng=0
    )
    assert single.pvalue <= 1
    better = {task: of + np.array([0, 4, 4])[:, None, None] for task, of in one.items()}
    assert rows_difference([better], [one])["rouge_l"]["AP"].p == pytest.approx(1 / (1 + RESAMPLES))


def test_false_alarms_of_the_permutation_test_are_as_rare_as_it_says() -> None:
    alarms = [rows_difference([table(n)], [table(n + 1000)])["rouge_l"]["AP"].p < 0.05 for n in range(40)]
    assert sum(alarms) <= 40 * 0.05 + 3 * math.sqrt(40 * 0.05 * 0.95)


def test_several_seeds_are_exchanged_together() -> None:
    """The same rows answered in two seeds are no second sample of rows."""
    one, other = table(1), table(2)
    once, twice = rows_difference([one], [other]), rows_difference([one, one], [other, other])
    for name in ("AP", "BWT", "FWT", "forgetting"):
        assert once["rouge_l"][name] == twice["rouge_l"][name]


def test_other_rows_are_not_compared() -> None:
    with pytest.raises(DataError, match="not tested on the same rows"):
        rows_difference([table(1, rows=20)], [table(1, rows=21)])


def test_seeds_have_students_and_welchs_intervals() -> None:
    values = [1.0, 2.0, 3.0, 4.0]  # mean 2.5, standard error 0.6455, t(3) = 3.1824
    found = over_seeds(values)
    assert (found.value, found.low, found.high) == pytest.approx((2.5, 2.5 - 2.0543, 2.5 + 2.0543), abs=1e-3)
    assert found.p == pytest.approx(0.0305, abs=1e-3)
    one, other = [1.0, 2.0, 3.0], [4.0, 6.0, 8.0]
    welch = seeds_difference(one, other)
    assert welch.value == -4
    assert welch.p == pytest.approx(float(stats.ttest_ind(one, other, equal_var=False).pvalue))
    assert welch.low < welch.value < welch.high


def test_too_few_or_equal_seeds_say_nothing_rather_than_too_much() -> None:
    alone = over_seeds([3.0])
    assert alone.value == 3
    assert math.isnan(alone.low)
    assert math.isnan(alone.p)
    assert math.isnan(over_seeds([5.0, 5.0]).p)  # a t test would call this certain
    assert math.isnan(seeds_difference([5.0, 5.0], [1.0, 1.0]).p)


def test_holms_correction_has_its_worked_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.5, math.nan, 0.9])
    assert corrected[0] == 1
    assert math.isnan(corrected[1])


def test_rows_are_read_as_they_were_written_and_the_chosen_prompt_stands_in_for_an_equal_original() -> None:
    scores = table(4)
    other = line("b", "a", table(5)["a"][2], prompt="original")
    found = row_tables([*lines(scores), other], ["base", *ORDER], ORDER, "rows.jsonl")
    for task in ORDER:
        np.testing.assert_array_equal(found["chosen"][task], scores[task])
    np.testing.assert_array_equal(found["original"]["b"], scores["b"])
    np.testing.assert_array_equal(found["original"]["a"][2], table(5)["a"][2])


def refused(lines: list[RowScores]) -> str:
    with pytest.raises(OtherRunError) as refusal:
        row_tables(lines, ["base", *ORDER], ORDER, "rows.jsonl")
    return str(refusal.value)


def test_fault_04_rows_that_are_missing_or_not_as_many_after_every_stage_are_named() -> None:
    scores = table(4)
    whole = lines(scores)
    assert refused(whole[:4] + whole[5:]) == "rows.jsonl lacks the row scores of b after a"
    shorter = line("a", "a", scores["a"][1, :, :-1])
    assert "a has [19, 20] rows, not the same number" in refused([whole[0], shorter, *whole[2:]])
    none = [line(one.stage, one.task, scores["b"][0, :, :0]) if one.task == "b" else one for one in whole]
    assert "b has [0] rows" in refused(none)


def test_fault_04_a_metric_that_is_missing_or_unknown_is_named() -> None:
    whole = lines(table(4))
    content = whole[1].content()
    less = RowScores.model_validate({key: value for key, value in content.items() if key != "rouge_l"})
    more = RowScores.model_validate(content | {"bleu": content["rouge_l"]})
    for odd, name in ((less, "rouge_l"), (more, "bleu")):
        message = refused([whole[0], odd, *whole[2:]])
        assert message == f"rows.jsonl: a after a has too many or too few metrics: {name}"


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, "50", True])
def test_fault_04_a_row_score_that_is_no_number_is_named(bad: Any) -> None:
    content = lines(table(4))[1].content()
    content["exact_match"][4] = bad
    finite = isinstance(bad, float)
    what = "not a finite number" if finite else r"exact_match\.4: Input should be a valid number, found"
    with pytest.raises(ArtifactError, match=rf"^rows\.jsonl, line 2.*{what}"):
        RowScores.parse(json.dumps(content), "rows.jsonl, line 2")


@pytest.mark.parametrize("kind", ["chosen", "original"])
def test_fault_04_rows_whose_means_are_not_the_scores_are_refused(kind: Kind) -> None:
    scores = table(4)
    means = [
        {task: dict(zip(METRICS, of[i].mean(-1).tolist(), strict=True)) for task, of in scores.items()}
        for i in range(3)
    ]
    stages = [scores_by_hand(stage, of, of) for stage, of in zip(["base", *ORDER], means, strict=True)]
    check_means(scores, stages, kind, "rows.jsonl")
    spoilt = deepcopy(means[1])
    spoilt["b"]["exact_match"] += 0.01
    of = {"chosen": means[1], "original": means[1]} | {kind: spoilt}
    stages[1] = scores_by_hand("a", of["chosen"], of["original"])
    message = f"rows of b after a have a mean exact_match of .* under the {kind} prompt"
    with pytest.raises(OtherRunError, match=message):
        check_means(scores, stages, kind, "rows.jsonl")
