"""Variance components of small tables worked by hand, ratios, and gains against scipy's paired test."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sapo.analysis.intervals import Estimate
from sapo.runtime.errors import DataError
from sapo.study.components import Components, components, gain, percentile, ratio, regret

untimed = settings(deadline=None, max_examples=20)  # how long a test takes depends on the machine
WORDING = np.array([0.0, 3.0, 6.0])[:, None, None]
SEED = np.array([1.0, 5.0])[:, None]
ROW = np.array([0.0, 10.0, 40.0])
SEED_WORDING = np.array([[1.0, -1.0], [1.0, -1.0], [-2.0, 2.0]])[:, :, None]
ROW_WORDING = np.array([[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]])[:, None, :]
NOTHING = np.zeros((3, 2, 3))


def outcome(seed: int, wordings: int = 7, seeds: int = 2, rows: tuple[int, ...] = (6, 9)) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    effects = random.standard_normal((wordings, 1, 1))
    return [effects + random.standard_normal((wordings, seeds, count)) for count in rows]


def numbers(found: Components) -> list[float]:
    ends = [
        (one.value, one.low, one.high) for one in (found.wording, found.seed, found.rows, found.reliability)
    ]
    return [found.noise, found.repeat, *(number for three in ends for number in three)]


def test_wordings_that_differ_by_the_same_on_all_rows_and_seeds_are_all_that_there_is() -> None:
    found = components([NOTHING + WORDING + SEED + ROW, NOTHING + WORDING - ROW])
    assert found.wording.value == pytest.approx(3)
    assert found.wording.low < 3 < found.wording.high
    assert found.seed == found.rows == Estimate(0, 0, 0)
    assert found.noise == found.repeat == 0
    assert found.reliability == Estimate(1, 1, 1)


def test_what_seeds_change_of_single_wordings_is_noise() -> None:
    found = components([NOTHING + SEED_WORDING + SEED])  # squares sum up to 12, of 2 degrees of freedom
    assert found.seed.value == found.repeat == pytest.approx(math.sqrt(6))
    assert found.noise == pytest.approx(math.sqrt(6 / 2))
    assert found.wording.value == found.rows.value == 0


def test_what_rows_change_of_single_wordings_is_noise() -> None:
    found = components([NOTHING + ROW_WORDING + ROW])  # squares sum up to 18, of 4 degrees of freedom
    assert found.rows.value == found.noise == pytest.approx(math.sqrt(18 / 4 / 3))
    assert found.wording.value == found.seed.value == found.repeat == 0
    two = components([NOTHING + ROW_WORDING, NOTHING - ROW_WORDING])
    assert two.rows.value == pytest.approx(math.sqrt(18 / 4 / 3 / 2))


def test_the_variance_of_the_scores_is_that_of_wordings_and_noise() -> None:
    found = components([NOTHING + 4 * WORDING + SEED_WORDING + ROW_WORDING])
    scores = (4 * WORDING + SEED_WORDING.mean(1, keepdims=True)).ravel()
    assert found.wording.value**2 + found.noise**2 == pytest.approx(np.var(scores, ddof=1))
    assert found.noise**2 == pytest.approx(found.rows.value**2 + found.repeat**2 / 2)
    assert found.reliability.value == pytest.approx(found.wording.value**2 / np.var(scores, ddof=1))


def test_one_seed_cannot_tell_seeds_from_wordings() -> None:
    tasks = outcome(0, 21, 1, (40,))
    found = components(tasks)
    for unknown in (found.seed.value, found.seed.low, found.seed.high, found.repeat):
        assert math.isnan(unknown)
    assert found.noise == found.rows.value
    scores = tasks[0].mean((1, 2))
    assert found.wording.value**2 == pytest.approx(np.var(scores, ddof=1) - found.noise**2)
    assert found.wording.low < found.wording.value < found.wording.high


def test_scores_that_are_all_the_same_have_no_reliability() -> None:
    found = components([np.full((5, 2, 4), 100 / 3)])
    assert found.wording == found.seed == found.rows == Estimate(0, 0, 0)
    assert math.isnan(found.reliability.value)
    no = gain([np.full((5, 2, 4), 100 / 3)], 2)
    assert (no.value, no.low, no.high, no.p) == pytest.approx((0, 0, 0, 1))


@untimed
@given(st.integers(0, 999))
def test_values_lie_in_their_intervals_which_a_higher_level_widens(seed: int) -> None:
    tasks = outcome(seed)
    found, wider = components(tasks), components(tasks, level=0.99)
    for name in ("wording", "seed", "rows", "reliability"):
        one, other = getattr(found, name), getattr(wider, name)
        assert other.low <= one.low <= one.high <= other.high
    assert found.wording.low <= found.wording.value <= found.wording.high
    assert found.rows.low <= found.rows.value <= found.rows.high


@untimed
@given(st.integers(0, 999), st.floats(0.01, 100))
def test_the_unit_goes_through(seed: int, unit: float) -> None:
    tasks = outcome(seed)
    found, scaled = components(tasks), components([unit * task for task in tasks])
    scales = [unit] * 11 + [1] * 3  # the reliability has none
    assert numbers(scaled) == pytest.approx(np.multiply(numbers(found), scales).tolist(), rel=1e-6, abs=1e-9)
    assert gain([unit * task for task in tasks], 1, 0).high == pytest.approx(unit * gain(tasks, 1, 0).high)


@untimed
@given(st.integers(0, 999))
def test_a_ratio_of_an_outcome_and_a_multiple_of_it_is_the_factor(seed: int) -> None:
    tasks = [outcome(seed)[0] + 40 * np.arange(7)[:, None, None]]
    found = ratio([3 * task for task in tasks], tasks)
    assert found.value == pytest.approx(3)
    assert found.low < 3 < found.high < math.inf
    back = ratio(tasks, [3 * task for task in tasks])
    assert back.value == pytest.approx(1 / 3)


def test_a_ratio_to_nothing_is_infinite_and_that_of_nothing_to_nothing_unknown() -> None:
    something, nothing = [NOTHING + WORDING], [NOTHING + SEED]
    assert ratio(something, nothing) == Estimate(math.inf, math.inf, math.inf)
    assert ratio(nothing, something) == Estimate(0, 0, 0)
    unknown = ratio(nothing, nothing)
    assert math.isnan(unknown.value)
    assert (unknown.low, unknown.high) == (0, math.inf)


def test_a_ratio_to_what_may_be_nothing_has_no_upper_end() -> None:
    random = np.random.default_rng(1)
    noise = [random.standard_normal((21, 2, 48))]
    found = ratio([task + 3 * random.standard_normal((21, 1, 1)) for task in noise], noise)
    assert 3 < found.low < found.high == math.inf


def test_a_ratio_is_of_the_same_wordings() -> None:
    with pytest.raises(DataError, match="6 and 7"):
        ratio(outcome(0, 6), outcome(0, 7))


@untimed
@given(st.integers(0, 999), st.sampled_from([0.9, 0.95]))
def test_with_one_seed_and_task_a_gain_is_the_paired_t_test_over_rows(seed: int, level: float) -> None:
    tasks = outcome(seed, 5, 1, (12,))
    test = stats.ttest_rel(tasks[0][3, 0], tasks[0][1, 0])
    ends = test.confidence_interval(level)
    found = gain(tasks, 3, 1, level=level)
    expected = [tasks[0][3].mean() - tasks[0][1].mean(), ends.low, ends.high, test.pvalue]
    assert [found.value, found.low, found.high, found.p] == pytest.approx(expected)


def test_what_seeds_change_widens_a_gain() -> None:
    # The difference of two means of two seeds, each of variance 6: 6, of 2 degrees of freedom
    found = gain([NOTHING + SEED_WORDING + WORDING], 1, 0)
    width = math.sqrt(2 * 6 / 2) * stats.t.ppf(0.975, 2)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3 - width, 3 + width))
    mean = gain([NOTHING + SEED_WORDING + WORDING], 2)
    assert mean.value == pytest.approx(3)
    assert mean.high - 3 == pytest.approx(math.sqrt(2 / 3 * 6 / 2) * stats.t.ppf(0.975, 2))


@untimed
@given(st.integers(0, 999), st.integers(0, 6), st.integers(0, 6))
def test_gains_follow_their_wordings(seed: int, chosen: int, against: int) -> None:
    tasks = outcome(seed)
    order = np.random.default_rng(seed).permutation(7)
    moved = [task[order] for task in tasks]
    places = {int(wording): place for place, wording in enumerate(order)}
    for other in (against, None):
        found = gain(tasks, chosen, other)
        same = gain(moved, places[chosen], None if other is None else places[other])
        assert (same.low, same.high, same.p) == pytest.approx((found.low, found.high, found.p))
    back, forth = gain(tasks, against, chosen), gain(tasks, chosen, against)
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert sum(gain(tasks, wording).value for wording in range(7)) == pytest.approx(0, abs=1e-9)


def test_a_certain_difference_is_not_tested() -> None:
    found = gain([NOTHING + WORDING + ROW], 2, 0)
    assert (found.value, found.low, found.high) == (6, 6, 6)
    assert math.isnan(found.p)


@pytest.mark.parametrize(("chosen", "against"), [(7, None), (-1, None), (0, 7)])
def test_a_gain_of_a_wording_that_is_not_there_is_refused(chosen: int, against: int | None) -> None:
    with pytest.raises(DataError, match="no wording"):
        gain(outcome(0), chosen, against)


def test_percentile_and_regret() -> None:
    values = [3.0, 1.0, 2.0, 2.0, 7.0]
    assert [percentile(values, chosen) for chosen in range(5)] == [75, 0, 37.5, 37.5, 100]
    assert [regret(values, chosen) for chosen in range(5)] == [4, 6, 5, 5, 0]
