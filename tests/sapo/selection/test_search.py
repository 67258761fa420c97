"""The searches on made-up losses: exact ones equal the plain minimum, the race keeps what it promises."""

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.selection.search import BUDGET, FIRST, search

untimed = settings(deadline=None)
tables = st.integers(1, 60).flatmap(
    lambda rows: st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.25]) | st.floats(0, 20), min_size=rows, max_size=rows),
        min_size=1,
        max_size=21,
    )
)


def candidates(
    table: list[list[float]], asked: list[tuple[int, int]]
) -> list[Callable[[Sequence[int]], list[float]]]:
    """Row-loss functions over a table that note every (candidate, row) they are asked for."""

    def of(number: int) -> Callable[[Sequence[int]], list[float]]:
        def losses(rows: Sequence[int]) -> list[float]:
            asked.extend((number, row) for row in rows)
            return [table[number][row] for row in rows]

        return losses

    return [of(number) for number in range(len(table))]


def plain_best(table: list[list[float]]) -> int:
    from math import fsum

    return min(range(len(table)), key=lambda number: (fsum(table[number]), number))


@untimed
@given(table=tables)
@pytest.mark.parametrize("kind", ["exhaustive", "bounded"])
def test_an_exact_search_finds_the_lowest_sum_and_the_earlier_one_on_a_tie(
    kind: str, table: list[list[float]]
) -> None:
    best, _ = search(kind, candidates(table, []), len(table[0]), 0.95)
    assert best == plain_best(table)


@untimed
@given(table=tables)
@pytest.mark.parametrize("kind", ["exhaustive", "bounded", "race"])
def test_what_is_reported_is_what_was_measured_once_each_and_the_original_wholly(
    kind: str, table: list[list[float]]
) -> None:
    asked: list[tuple[int, int]] = []
    best, measured = search(kind, candidates(table, asked), len(table[0]), 0.95)
    assert len(asked) == len(set(asked))
    assert sorted(asked) == sorted((number, row) for number, losses in enumerate(measured) for row in losses)
    assert len(measured[0]) == len(table[0])
    assert all(
        table[number][row] == loss for number, losses in enumerate(measured) for row, loss in losses.items()
    )
    assert len(measured[best]) == max(map(len, measured[1:]), default=len(table[0])) or best == 0


def noisy(seed: int, rows: int, gap: float) -> list[list[float]]:
    """21 candidates whose mean losses lie `gap` apart, with noise of the rows and noise of their own."""
    draw = random.Random(seed)
    hardness = [draw.expovariate(1) for _ in range(rows)]
    order = draw.sample(range(21), 21)
    return [[abs(hard + gap * place + draw.gauss(0, 0.3)) for hard in hardness] for place in order]


def test_a_race_finds_the_best_with_a_third_of_the_work_where_candidates_differ() -> None:
    right, work = 0, []
    for seed in range(60):
        table, asked = noisy(seed, 250, 0.1), []
        best, _ = search("race", candidates(table, asked), 250, 0.95)
        right += best == plain_best(table)
        work.append(len(asked) / (21 * 250))
    assert right >= 57
    assert max(work) <= BUDGET


def test_a_race_of_equals_stays_near_its_budget_and_loses_little() -> None:
    for seed in range(10):
        table, asked = noisy(seed, 250, 0.0), []
        best, _ = search("race", candidates(table, asked), 250, 0.95)
        assert len(asked) <= 1.25 * BUDGET * 21 * 250
        assert sum(table[best]) <= 1.05 * min(map(sum, table))


def test_bounded_drops_hopeless_candidates_early() -> None:
    table, asked = noisy(3, 250, 0.5), []
    search("bounded", candidates(table, asked), 250, 0.95)
    assert len(asked) < 0.8 * 21 * 250


def test_few_rows_are_all_measured_by_a_race() -> None:
    table, asked = noisy(1, FIRST, 0.1), []
    assert search("race", candidates(table, asked), FIRST, 0.95)[0] == plain_best(table)
    assert len(asked) == 21 * FIRST


def test_an_unknown_search_is_refused() -> None:
    with pytest.raises(KeyError):
        search("best", candidates([[1.0]], []), 1, 0.95)
