"""Mean squares against sums written out, and what may not change them."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.runtime.errors import DataError
from sapo.study.mean_squares import mean_squares

untimed = settings(deadline=None, max_examples=20)  # how long a test takes depends on the machine


def outcome(seed: int, wordings: int = 6, seeds: int = 3, rows: tuple[int, ...] = (5, 9)) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    effects = random.standard_normal((wordings, 1, 1))
    return [effects + random.standard_normal((wordings, seeds, count)) for count in rows]


def numbers(tasks: list[np.ndarray]) -> list[float]:
    found = mean_squares(tasks)
    squares = (found.wordings, found.seeds, found.rows, found.error)
    return [found.rows_error, *(number for one in squares for number in (one.value, one.df))]


@untimed
@given(st.integers(0, 999))
def test_they_are_the_sums_of_squares_of_an_analysis_of_variance(seed: int) -> None:
    tasks = outcome(seed)
    found = mean_squares(tasks)
    wordings, seeds, _ = tasks[0].shape
    means = sum(task.mean(2) for task in tasks) / 2
    grand = means.mean()
    between = sum((means[k].mean() - grand) ** 2 for k in range(wordings)) / (wordings - 1)
    interaction = sum(
        (means[k, s] - means[k].mean() - means[:, s].mean() + grand) ** 2
        for k in range(wordings)
        for s in range(seeds)
    )
    rows = error = 0.0
    for task in tasks:
        count = task.shape[2]
        for k in range(wordings):
            for i in range(count):
                pair = task[k, :, i].mean() - task[k].mean() - task[:, :, i].mean() + task.mean()
                rows += pair**2 / (wordings - 1) / (count - 1) / count / 4
                for s in range(seeds):
                    all_three = (
                        task[k, s, i]
                        - task[k, s].mean()
                        - task[k, :, i].mean()
                        - task[:, s, i].mean()
                        + task[k].mean()
                        + task[:, s].mean()
                        + task[:, :, i].mean()
                        - task.mean()
                    )
                    error += all_three**2 / (wordings - 1) / (seeds - 1) / (count - 1) / (seeds * count) / 4
    assert found.scores == pytest.approx(means.mean(1))
    assert found.wordings.value == pytest.approx(between)
    assert found.seeds.value == pytest.approx(interaction / (wordings - 1) / (seeds - 1) / seeds)
    assert found.rows.value == pytest.approx(rows)
    assert found.error.value == pytest.approx(error)
    assert found.noise == pytest.approx(found.seeds.value + rows - error)


@untimed
@given(st.integers(0, 999), st.floats(-100, 100))
def test_what_all_wordings_share_changes_nothing(seed: int, shift: float) -> None:
    random = np.random.default_rng(seed + 1)
    tasks = outcome(seed)
    effect = 10 * random.standard_normal(3)[:, None]  # of the seeds
    shared = [effect + 10 * random.standard_normal((3, task.shape[2])) for task in tasks]
    moved = [task + shift + one for task, one in zip(tasks, shared, strict=True)]
    assert numbers(moved) == pytest.approx(numbers(tasks), rel=1e-6)


@untimed
@given(st.integers(0, 999))
def test_the_order_of_wordings_seeds_rows_and_tasks_is_of_no_account(seed: int) -> None:
    random = np.random.default_rng(seed)
    tasks = outcome(seed)
    wordings, seeds = random.permutation(6), random.permutation(3)
    other = [task[wordings][:, seeds][:, :, random.permutation(task.shape[2])] for task in reversed(tasks)]
    assert numbers(other) == pytest.approx(numbers(tasks))
    assert mean_squares(other).scores == pytest.approx(mean_squares(tasks).scores[wordings])


@untimed
@given(st.integers(0, 999))
def test_degrees_of_freedom_are_at_most_those_of_normal_scores(seed: int) -> None:
    found = mean_squares(outcome(seed, 6, 3, (7,)))
    assert 0 < found.wordings.df <= 5 + 1e-9
    assert 0 < found.seeds.df <= 10 + 1e-9
    assert found.rows.df == pytest.approx(5 * 6)
    assert found.error.df == pytest.approx(5 * 2 * 6)


def test_an_effect_that_shows_on_few_rows_is_less_sure() -> None:
    random = np.random.default_rng(0)
    effects = random.standard_normal((21, 1, 1))
    noise = random.standard_normal((21, 2, 48))
    everywhere = mean_squares([effects + noise])
    on_six = mean_squares([8 * effects * (np.arange(48) < 6) + noise])
    assert on_six.wordings.value == pytest.approx(everywhere.wordings.value, rel=0.2)
    assert everywhere.wordings.df > 19.5
    assert on_six.wordings.df < 12


def test_one_seed_has_neither_seeds_nor_error() -> None:
    found = mean_squares(outcome(0, 6, 1))
    assert found.seeds.value == found.error.value == 0
    assert found.noise == found.rows.value


GOOD = np.random.default_rng(0).standard_normal((5, 2, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: [], "at least one task"),
        (lambda: [GOOD[0]], "wordings, seeds, rows"),
        (lambda: [GOOD, GOOD[:4]], "alike but for the rows"),
        (lambda: [GOOD, GOOD[:, :1]], "alike but for the rows"),
        (lambda: [GOOD[:2]], "3 wordings"),
        (lambda: [GOOD[:, :0]], "1 seed"),
        (lambda: [GOOD[:, :, :1]], "2 rows"),
        (lambda: [np.where(GOOD > 1, np.nan, GOOD)], "not finite"),
        (lambda: [GOOD, np.where(GOOD > 1, np.inf, GOOD)], "not finite"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(change: Callable[[], list[np.ndarray]], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        mean_squares(change())
    assert "\n" not in str(caught.value)
