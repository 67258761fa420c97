"""The study's stages in one process, from a tiny run: they measure what the experiment's own stages do."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import study_losses
import study_paraphrase
import study_train
from laboratory import STUDIED, study_settings, with_section
from sapo.analysis.answer_metrics import METRICS
from sapo.artifacts.candidates import read_candidates
from sapo.artifacts.chosen_prompt import ChosenPrompt, prompt_path
from sapo.artifacts.scores import RowScores, read_rows
from sapo.artifacts.study import (
    PairPredictors,
    PairTrainings,
    TaskRows,
    predictors_path,
    read_wordings,
    trainings_path,
)
from sapo.artifacts.task import load_task
from sapo.config import load_params
from sapo.runtime.errors import DataError
from sapo.settings.study import Pair
from sapo.study.state import State

TASK, BEFORE = STUDIED["task"], STUDIED["after"]
PAIR = Pair(**STUDIED)
WORDINGS = 5


def train(seed: int | None = None) -> PairTrainings:
    seed = load_params().seed if seed is None else seed
    study_train.study_train(TASK, BEFORE, str(seed))
    return PairTrainings.read(trainings_path(PAIR, seed))


def run_rows(stage: str, task: str) -> RowScores:
    """What the run's evaluation after a stage says of a task under its chosen prompt."""
    [found] = [one for one in read_rows(TASK) if (one.stage, one.task, one.prompt) == (stage, task, "chosen")]
    return found


def check_same(found: TaskRows, expected: RowScores) -> None:
    for name, metric in METRICS.items():
        if metric.drawn:
            assert found.metrics[name] == pytest.approx(expected.metrics[name], abs=2e-4)


def test_a_wording_s_training_and_scores_are_those_of_the_run(studied: Path) -> None:
    chosen = ChosenPrompt.read(prompt_path(TASK)).chosen
    assert chosen < WORDINGS
    result = train().wordings[chosen]
    of = {one.role: one for one in result.tasks}
    check_same(of["own"], run_rows(TASK, TASK))
    check_same(of["earlier"], run_rows(TASK, BEFORE))
    assert {one.wording for one in train().wordings} == {*range(WORDINGS)}


def test_the_scores_before_are_those_of_the_stage_before(studied: Path) -> None:
    study_losses.study_losses(TASK, BEFORE)
    found = {one.role: one for one in PairPredictors.read(predictors_path(PAIR)).before}
    check_same(found["earlier"], run_rows(BEFORE, BEFORE))
    check_same(found["original"], run_rows(BEFORE, TASK))


def test_the_loss_of_a_wording_is_the_one_that_select_measures(studied: Path) -> None:
    study_losses.study_losses(TASK, BEFORE)
    values = PairPredictors.read(predictors_path(PAIR)).predictors["loss"].values
    prompt = ChosenPrompt.read(prompt_path(TASK))
    assert values[: len(prompt.candidates)] == pytest.approx(
        [one.loss for one in prompt.candidates], abs=1e-5
    )
    assert len(values) == WORDINGS


def test_wordings_begin_with_the_run_s_candidates(studied: Path) -> None:
    task = load_task(TASK)
    candidates = read_candidates(task)
    assert read_wordings(task, WORDINGS)[: len(candidates)] == candidates


def test_every_wording_meets_the_same_rows_in_the_same_order_with_the_same_lora(studied: Path) -> None:
    state = State(load_params(), PAIR)
    starts = []
    for _ in range(2):
        with state.lora(1) as model:
            starts.append({name: one.clone() for name, one in model.named_parameters() if one.requires_grad})
            with torch.no_grad():
                for weight in model.parameters():
                    if weight.requires_grad:
                        weight += 1
    assert starts[0].keys() == starts[1].keys()
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])
    with state.lora(2) as model:
        name, other = next((n, one) for n, one in model.named_parameters() if "lora_A" in n)
        assert not torch.equal(starts[0][name], other)
    examples = [[row.answer for row in state.rows(text)] for text in state.texts]
    assert all(one == examples[0] for one in examples)


def test_a_training_leaves_no_trace(studied: Path) -> None:
    state = State(load_params(), PAIR)
    before = {name: tensor.clone() for name, tensor in state.model.state_dict().items()}
    scores = state.scores(state.others)
    with state.lora(1) as model:
        state.train(model, state.rows(state.texts[1]), 1, Path("checkpoints"))
        assert state.scores(state.others) != scores
    assert state.scores(state.others) == scores
    after = state.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not Path("checkpoints").exists()


def test_gradient_checkpointing_changes_no_score(studied: Path) -> None:
    plain = train().wordings
    with_section("train", gradient_checkpointing=True)()
    for one, other in zip(plain, train().wordings, strict=True):
        for found, expected in zip(one.tasks, other.tasks, strict=True):
            likelihoods = "log_likelihood"
            assert found.metrics[likelihoods] == pytest.approx(expected.metrics[likelihoods], abs=1e-4)


def test_what_was_finished_before_a_kill_is_not_done_again(
    studied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train()
    path = trainings_path(PAIR, load_params().seed)
    whole = path.read_bytes()
    path.unlink()
    calls: list[str] = []
    plain = State.rows

    def killed(state: State, text: str) -> Any:
        calls.append(text)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(state, text)

    monkeypatch.setattr(State, "rows", killed)
    with pytest.raises(KeyboardInterrupt):
        train()
    assert not path.exists()
    assert train().wordings
    assert len(calls) == WORDINGS + 1  # the one that was cut off twice
    assert path.read_bytes() == whole
    assert not list(Path(".checkpoints").glob("study-*"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda: study_settings(pairs=[{"task": "xsum", "after": "base"}]),
            "'base' is not a task of sequence pair",
        ),
        (
            lambda: study_settings(pairs=[{"task": "newsgroups", "after": "xsum"}]),
            "'newsgroups' is not a task",
        ),
        (lambda: study_settings(pairs=[{"task": BEFORE, "after": TASK}]), "xsum does not come first"),
        (lambda: study_settings(pairs=[PAIR.model_dump()] * 2), "xsum-after-reuters_r8 is named twice"),
        (lambda: study_settings(seeds=[1, 1]), "1 is named twice"),
        (lambda: study_settings(wordings=3), "study.wordings"),
        (
            lambda: study_settings(wordings=40),
            "study.wordings = 40 needs 39 paraphrases of xsum: .* holds 20",
        ),
        (
            lambda: (
                with_section("sequence", probes=["newsgroups"])(),
                study_settings(pairs=[{"task": "newsgroups", "after": "xsum"}]),
            ),
            "newsgroups is a probe, and a probe is never trained",
        ),
    ],
)
def test_a_study_that_cannot_be_is_refused_before_any_work(
    studied: Path, change: Callable[[], Any], told: str
) -> None:
    shutil.rmtree("study/wordings")
    change()
    with pytest.raises(DataError, match=told):
        study_paraphrase.study_paraphrase()
    assert not Path("study/wordings").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_section("method", adapter="single"), "method.adapter is 'single'"),
        (lambda: study_settings(wordings=6), "is of another study: expected 6 wordings"),
        (with_section("prompt", max_tokens=64), "prompt.max_tokens"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_any_training(
    studied: Path, change: Callable[[], Any], told: str
) -> None:
    change()
    with pytest.raises(DataError, match=told):
        train()


def test_a_pair_or_seed_that_the_settings_do_not_name_is_refused(studied: Path) -> None:
    with pytest.raises(DataError, match=r"study\.pairs has no reuters_r8 after xsum"):
        study_train.study_train(BEFORE, TASK, "1")
    with pytest.raises(DataError, match=r"study\.seeds has no 7"):
        study_train.study_train(TASK, BEFORE, "7")
