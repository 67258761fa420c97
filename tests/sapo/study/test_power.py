"""The power of a study: its limits, its order, and against studies simulated score by score."""

import math

import numpy as np
import pytest

from sapo.analysis.intervals import Estimate
from sapo.study.components import Components, components
from sapo.study.correlation import spearman
from sapo.study.power import power, power_table


def found(wording: float, rows: float, repeat: float) -> Components:
    def estimate(value: float) -> Estimate:
        return Estimate(value, value, value)

    noise = math.sqrt(rows**2 + repeat**2 / 2)
    return Components(estimate(wording), estimate(repeat), estimate(rows), repeat, noise, estimate(0.5))


def test_a_predictor_of_nothing_is_found_in_one_of_twenty() -> None:
    for wordings in (11, 21, 41):
        assert power(0.0, wordings, 2, found(6, 3, 4), draws=20_000) == pytest.approx(0.05, abs=0.006)
    assert power(0.7, 21, 2, found(0, 3, 4), draws=20_000) == pytest.approx(0.05, abs=0.006)


def test_a_perfect_predictor_is_always_found_where_there_is_no_noise() -> None:
    assert power(1.0, 11, 1, found(6, 0, 0)) == power(-1.0, 11, 1, found(6, 0, 0)) == 1


def test_power_grows_with_all_that_a_study_has_more_of() -> None:
    rows = power_table(found(6, 3, 4))
    assert [(row.wordings, row.seeds, row.rho) for row in rows[:4]] == [
        (11, 1, 0.3),
        (11, 1, 0.5),
        (11, 1, 0.7),
        (11, 2, 0.3),
    ]
    table = np.array([row.power for row in rows]).reshape(3, 4, 3)
    assert (np.diff(table, axis=0) > 0).all()
    assert (np.diff(table, axis=1) >= -0.01).all()
    assert (table[:, -1] > table[:, 0]).all()
    assert (np.diff(table, axis=2) > 0).all()


def test_the_sign_of_the_correlation_is_of_no_account() -> None:
    assert power(-0.5, 21, 2, found(6, 3, 4)) == pytest.approx(power(0.5, 21, 2, found(6, 3, 4)), abs=0.04)


def test_one_seed_does_not_tell_what_more_seeds_add() -> None:
    tasks = [np.random.default_rng(0).standard_normal((21, 1, 48))]
    assert all(math.isnan(row.power) for row in power_table(components(tasks)))


def test_it_is_how_often_studies_find_the_predictor() -> None:
    random = np.random.default_rng(0)
    draws, wordings, seeds, rows = 300, 21, 2, 24
    wording, seed, rest = 1.0, 0.8, 4.0  # standard deviations; the rest is of single scores
    significant = 0
    for _ in range(draws):
        effects = random.standard_normal(wordings)
        predictor = 0.7 * effects + math.sqrt(1 - 0.7**2) * random.standard_normal(wordings)
        scores = wording * effects[:, None, None] + seed * random.standard_normal((wordings, seeds, 1))
        scores = scores + rest * random.standard_normal((wordings, seeds, rows))
        significant += spearman(predictor, scores.mean((1, 2))).p <= 0.05
    rho = 6 / math.pi * math.asin(0.7 / 2)
    expected = power(rho, wordings, seeds, found(wording, 0, math.sqrt(seed**2 + rest**2 / rows)))
    assert significant / draws == pytest.approx(expected, abs=0.08)
