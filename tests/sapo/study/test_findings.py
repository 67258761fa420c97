"""The findings of studies made by hand: what is planted is found, and what is not is not."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from sapo.artifacts.study import Role
from sapo.artifacts.study_summary import PairFindings, StudySummary
from sapo.config import Params
from sapo.study.findings import SAPO, better, corrected, findings, means, summarise
from sapo.study.results import read_results
from study_by_hand import PAIRS, study_by_hand, study_settings

LOSS_TELLS: dict[str, dict[Role, float]] = {
    "loss": {"earlier": -0.3, "probe": -0.3, "later": -0.3},
    "length": {},
    "look_ahead": {},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def summary_of(params: Params, planted: Mapping[str, Mapping[Role, float]], **how: float) -> StudySummary:
    study_by_hand(params, planted, **how)
    return summarise(params, read_results(params))


def test_a_loss_that_tells_is_found_and_choosing_by_it_gains() -> None:
    summary = summary_of(study_settings(), LOSS_TELLS)
    for pair in summary.pairs:
        for outcome in ("retained", "unseen"):
            of = pair.forecasts["log_likelihood"][outcome][SAPO]
            assert of.correlation.value < -0.7
            assert of.corrected < 0.05
            assert of.over_mean.low > 0
            assert of.percentile > 80
        assert pair.spread["log_likelihood"]["retained"].wording.low > 0.1
        assert pair.ratios["log_likelihood"]["retained"].low > 1
        assert pair.together["log_likelihood"]["retained ~ unseen"].value > 0.5
    assert summary.better == []


def test_a_rival_that_does_better_is_named_and_a_useless_one_is_not() -> None:
    planted: dict[str, dict[Role, float]] = {
        "loss": {},
        "look_ahead": {"earlier": -0.3},
        "length": {},
    }
    summary = summary_of(study_settings(), planted)
    assert summary.better == ["look_ahead"]
    for pair in summary.pairs:
        beyond = pair.forecasts["log_likelihood"]["retained"]["look_ahead"].beyond_loss
        assert beyond.low > 0
        assert pair.forecasts["log_likelihood"]["retained"]["loss"].beyond_loss is None


def test_two_thirds_of_the_pairs_decide_whether_a_rival_is_better() -> None:
    summary = summary_of(study_settings(), {"loss": {}, "look_ahead": {"earlier": -0.3}})

    def without_gain(pair: PairFindings) -> PairFindings:
        content = pair.model_dump()
        content["forecasts"]["log_likelihood"]["retained"]["look_ahead"]["beyond_loss"]["low"] = -0.1
        return PairFindings.model_validate(content)

    first, second, third = summary.pairs
    assert better([without_gain(first), second, third]) == ["look_ahead"]
    assert better([without_gain(first), without_gain(second), third]) == []


def test_without_effects_nothing_is_claimed() -> None:
    summary = summary_of(study_settings(), {"loss": {}, "length": {}}, seed=3)
    spreads = [of.wording.low for pair in summary.pairs for of in pair.spread["log_likelihood"].values()]
    assert sum(low > 0 for low in spreads) <= 1  # of nine intervals of 95 %
    for pair in summary.pairs:
        for by_predictor in pair.forecasts["log_likelihood"].values():
            assert all(of.corrected > 0.05 for of in by_predictor.values())
    assert summary.better == []


def test_effects_are_means_over_tasks_of_means_over_rows() -> None:
    params = study_settings()
    study_by_hand(params, LOSS_TELLS)
    [_, two_earlier, _] = read_results(params)
    tables = two_earlier.tables("retained", "log_likelihood")
    assert {task: table.shape for task, table in tables.items()} == {
        "first": (21, 2, 16),
        "second": (21, 2, 16),
    }
    expected = (tables["first"].mean(-1) + tables["second"].mean(-1)) / 2
    assert np.allclose(means(tables), expected)
    training = two_earlier.trainings[1].wordings[4]
    [first] = [one for one in training.tasks if one.task == "first"]
    assert tables["first"][4, 1].tolist() == first.metrics["log_likelihood"]


def test_each_outcome_holds_its_tasks() -> None:
    params = study_settings()
    study_by_hand(params, LOSS_TELLS)
    results = {tuple(one.pair.model_dump().values()): one for one in read_results(params)}
    found = {
        pair: {outcome: [*of.tables(outcome, "score")] for outcome in ("in_task", "retained", "unseen")}
        for pair, of in results.items()
    }
    assert found == {
        ("second", "first"): {"in_task": ["second"], "retained": ["first"], "unseen": ["third", "probe"]},
        ("third", "second"): {"in_task": ["third"], "retained": ["first", "second"], "unseen": ["probe"]},
        ("third", "first"): {"in_task": ["third"], "retained": ["first"], "unseen": ["second", "probe"]},
    }


def test_holm_corrects_the_loss_over_pairs_and_outcomes_and_the_rivals_among_themselves() -> None:
    params = study_settings()
    study_by_hand(params, LOSS_TELLS)
    raw = [findings(one) for one in read_results(params)]
    pairs = corrected(raw)
    for is_loss, count in ((True, 9), (False, 18)):
        every = [
            of
            for pair in pairs
            for by_predictor in pair.forecasts["log_likelihood"].values()
            for name, of in by_predictor.items()
            if (name == SAPO) == is_loss
        ]
        assert len(every) == count
        least = min(every, key=lambda of: of.correlation.p)
        assert least.corrected == pytest.approx(min(1, count * least.correlation.p), abs=1e-3)
        assert all(of.corrected >= of.correlation.p for of in every)


def test_one_seed_says_nothing_of_another_seed() -> None:
    summary = summary_of(study_settings(PAIRS[:1], seeds=[1]), LOSS_TELLS)
    of = summary.pairs[0].spread["log_likelihood"]["retained"]
    assert of.seed.value is None
    assert of.between_seeds.value is None
    assert all(one.power is None for one in summary.power)


def test_three_seeds_agree_as_the_mean_over_their_pairs() -> None:
    summary = summary_of(study_settings(PAIRS[:1], seeds=[1, 2, 3]), LOSS_TELLS)
    of = summary.pairs[0].spread["log_likelihood"]["retained"].between_seeds
    assert 0 < of.value < 1
    assert of.low is None


def test_where_no_task_is_left_nothing_is_said_of_unseen_ones() -> None:
    params = study_settings(PAIRS[1:2])
    params = params.model_copy(update={"sequence": params.sequence.model_copy(update={"probes": []})})
    study_by_hand(params, LOSS_TELLS)
    for path in Path("study").rglob("third-after-second*.json"):
        text = path.read_text()
        path.write_text(text.replace('"role": "probe"', '"role": "earlier"'))
    [pair] = summarise(params, read_results(params)).pairs
    assert "unseen" not in pair.spread["score"]
    assert pair.before["score"]["unseen"] is None
    assert "retained ~ unseen" not in pair.together["score"]


def test_the_numbers_are_the_same_whenever_they_are_computed() -> None:
    params = study_settings(PAIRS[:1])
    first = summary_of(params, LOSS_TELLS)
    assert summarise(params, read_results(params)) == first
    values = [of.value for of in first.pairs[0].together["score"].values() if of.value is not None]
    assert all(math.isfinite(value) for value in values)
