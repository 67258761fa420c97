"""Rank correlations against scipy, their intervals against formulas, and tests that keep their level."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from sapo.analysis.intervals import Estimate
from sapo.runtime.errors import DataError
from sapo.study.correlation import Values, spearman, spearman_difference

untimed = settings(deadline=None, max_examples=20)  # how long a test takes depends on the machine


def columns(seed: int, count: int = 21, ties: bool = False) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    y = random.standard_normal(count)
    found = [slope * y + random.standard_normal(count) for slope in (-1.0, 0.4)]
    return [np.round(column) if ties else column for column in (*found, y)]


def unknown(found: Estimate) -> bool:
    return all(math.isnan(number) for number in (found.value, found.low, found.high, found.p))


@untimed
@given(st.integers(0, 999), st.booleans())
def test_it_is_the_correlation_of_scipy_with_the_interval_of_bonett_and_wright(seed: int, ties: bool) -> None:
    a, _, y = columns(seed, ties=ties)
    r = float(stats.spearmanr(a, y).statistic)
    width = stats.norm.ppf(0.975) * math.sqrt((1 + r**2 / 2) / 18)
    found = spearman(a, y)
    assert found.value == pytest.approx(r)
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(math.atanh(r) - width), math.tanh(math.atanh(r) + width))
    )


@pytest.mark.parametrize("y", [[2, 1, 3, 4, 5], [1, 1, 3, 2, 2], [5, 3, 4, 1, 2]])
def test_p_is_the_share_of_all_orders_that_are_as_extreme(y: list[float]) -> None:
    x = [1, 2, 3, 4, 4]
    observed = abs(stats.spearmanr(x, y).statistic)
    orders = [abs(stats.spearmanr(x, order).statistic) for order in permutations(y)]
    share = np.mean([one >= observed - 1e-9 for one in orders])
    assert spearman(x, y).p == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("kinds", [21, 3])
def test_a_predictor_of_nothing_is_significant_in_one_of_twenty(kinds: int) -> None:
    random = np.random.default_rng(kinds)
    x, y = random.integers(kinds, size=(500, 21)), random.standard_normal((500, 21))
    significant = np.mean([spearman(*pair).p <= 0.05 for pair in zip(x, y, strict=True)])
    assert 0.02 < significant < 0.08


@untimed
@given(st.integers(0, 999))
def test_only_ranks_count(seed: int) -> None:
    a, b, y = columns(seed)
    order = np.random.default_rng(seed).permutation(21)
    same = spearman(np.exp(a[order]), (3 * y - 7)[order])
    assert [same.value, same.low, same.high] == pytest.approx(
        [(one := spearman(a, y)).value, one.low, one.high]
    )
    back = spearman(y, -a)
    assert (back.value, back.low, back.high) == pytest.approx((-one.value, -one.high, -one.low))
    assert spearman_difference(np.exp(a), b, y) == spearman_difference(a, b, 2 * y)


def test_the_same_order_is_sure_only_so_far() -> None:
    found = spearman(range(21), np.arange(21) ** 2)
    assert found.value == found.high == pytest.approx(1)
    assert 0.99 < found.low < 1
    assert found.p == pytest.approx(1e-4)
    assert spearman(range(21), -np.arange(21)).high == pytest.approx(-found.low)


def test_three_values_have_no_interval() -> None:
    found = spearman([1, 2, 3], [2, 4, 9])
    assert (found.value, found.p) == (pytest.approx(1), pytest.approx(1 / 3, abs=0.02))
    assert math.isnan(found.low)
    three = spearman_difference([1, 2, 3], [2, 1, 3], [3, 2, 1])
    assert three.value == pytest.approx(0.5)
    assert math.isnan(three.high)
    assert math.isnan(three.p)


def test_nothing_is_said_of_a_constant() -> None:
    a, b, y = columns(0)
    same = np.full(21, 1 / 3)
    for found in (spearman(same, y), spearman(y, same)):
        assert unknown(found)
    for three in ((same, b, y), (a, same, y), (a, b, same)):
        assert unknown(spearman_difference(*three))


@untimed
@given(st.integers(0, 999), st.booleans(), st.sampled_from([0.9, 0.95, 0.99]))
def test_a_difference_has_the_interval_of_zou(seed: int, ties: bool, level: float) -> None:
    a, b, y = columns(seed, ties=ties)
    one, other = spearman(a, y, level), spearman(b, y, level)
    ra, rb, rab = one.value, other.value, spearman(a, b).value
    shared = (rab - ra * rb / 2) * (1 - ra**2 - rb**2 - rab**2) + rab**3
    shared /= (1 - ra**2) * (1 - rb**2)
    down = (rb - other.low, one.high - ra)
    up = (other.high - rb, ra - one.low)
    low, high = (math.sqrt(x**2 + z**2 - 2 * shared * x * z) for x, z in (down, up))
    found = spearman_difference(a, b, y, level)
    assert (found.value, found.low, found.high) == pytest.approx((rb - ra, rb - ra - low, rb - ra + high))
    assert (found.p < 1 - level) == (found.low > 0 or found.high < 0)


@untimed
@given(st.integers(0, 999))
def test_a_difference_turned_round_changes_its_sign(seed: int) -> None:
    a, b, y = columns(seed)
    found, back = spearman_difference(a, b, y), spearman_difference(b, a, y)
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert back.p == pytest.approx(found.p)


@untimed
@given(st.integers(0, 999))
def test_p_is_the_level_at_which_the_interval_ends_at_0(seed: int) -> None:
    a, b, y = columns(seed)
    found = spearman_difference(a, b, y)
    assume(1e-6 < found.p < 1)
    edge = spearman_difference(a, b, y, level=1 - found.p)
    assert min(abs(edge.low), abs(edge.high)) == pytest.approx(0, abs=1e-6)


def test_a_predictor_is_as_good_as_itself_and_better_than_its_opposite() -> None:
    a, _, y = columns(3)
    same = spearman_difference(a, a, y)
    assert same.low <= same.value == 0 <= same.high
    assert same.p == 1
    assert spearman_difference(a, -a, y).low > 0.5
    opposite = spearman_difference(-y, y, y)
    assert opposite.value == pytest.approx(2)
    assert opposite.p < 1e-9


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], "3 or more"),
        ([1, 2, 3, 4], [1, 2, 3], r"\[3, 4\]"),
        ([1, 2, 3, math.nan], [1, 2, 3, 4], "not finite"),
        ([1, 2, 3, 4], [1, 2, 3, math.inf], "not finite"),
    ],
)
def test_values_that_cannot_be_used_are_refused(x: Values, y: Values, message: str) -> None:
    with pytest.raises(DataError, match=message):
        spearman(x, y)
    with pytest.raises(DataError, match=message):
        spearman_difference(x, x, y)
