"""A training that was killed goes on to the same bits, from what is whole."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from curves import tensorboard_curves
from sapo.config import Lora, Train
from sapo.prompts.encoder import Encoded
from sapo.runtime.files import read_json
from sapo.runtime.trackers import Training, tracking
from sapo.training import loop
from sapo.training.checkpoints import forget_checkpoints, last_checkpoint
from sapo.training.loop import Trained

Run = Callable[..., Trained]
FILES = ["history.json", "state.safetensors", "whole"]


class KilledError(Exception):
    """In place of a kill."""


@contextmanager
def steps_run(killed_in: int = 0) -> Iterator[list[int]]:
    """Counts the optimiser steps of the block; in step `killed_in` its training ends after the gradients."""
    backward, steps = loop.backward, []

    def counted(*arguments: Any) -> torch.Tensor:
        steps.append(len(steps) + 1)
        loss = backward(*arguments)
        if len(steps) == killed_in:
            raise KilledError
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "backward", counted)
        yield steps


def kill(run: Run, rows: list[Encoded], lora: Lora, train: Train, folder: Path, step: int = 6) -> None:
    """A training of six steps, with a checkpoint every second one, that is killed in this step."""
    with pytest.raises(KilledError), steps_run(killed_in=step):
        run(rows, lora, train, folder)


def assert_same(one: Trained, other: Trained) -> None:
    """To the last bit."""
    assert one.history == other.history
    assert one.state.keys() == other.state.keys()
    for name, tensor in one.state.items():
        assert torch.equal(other.state[name], tensor), name


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("step", "left"), [(2, 6), (3, 4), (5, 2), (6, 2)])
def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path,
    run: Run,
    rows: list[Encoded],
    lora: Lora,
    train_settings: Train,
    dropout: float,
    step: int,
    left: int,
) -> None:
    dropping = lora.model_copy(update={"dropout": dropout})
    whole = run(rows, dropping, train_settings, tmp_path / "whole")
    kill(run, rows, dropping, train_settings, tmp_path / "killed", step)
    torch.manual_seed(77)  # another process begins with other random numbers
    with steps_run() as steps:
        resumed = run(rows, dropping, train_settings, tmp_path / "killed")
    assert len(steps) == left
    assert_same(whole, resumed)


def test_a_killed_run_goes_on_in_the_curves_of_its_tracker(
    tmp_path: Path,
    run: Run,
    rows: list[Encoded],
    lora: Lora,
    train_settings: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in step 6, with a checkpoint after step 4: step 5 is run twice and shown once."""
    monkeypatch.chdir(tmp_path)
    plain = run(rows, lora, train_settings, tmp_path / "plain")
    training = Training("lora_inc", "t", "0" * 16, {})
    with pytest.raises(KilledError), steps_run(killed_in=6), tracking(["tensorboard"], training) as report:
        run(rows, lora, train_settings, tmp_path / "killed", report=report)
    folder = Path(f".tracking/tensorboard/lora_inc/t-{'0' * 16}")
    assert [step for step, _ in tensorboard_curves(folder)["train/loss"]] == [1, 2, 3, 4, 5]  # live
    with steps_run() as steps, tracking(["tensorboard"], training) as report:
        tracked = run(rows, lora, train_settings, tmp_path / "killed", report=report)
    assert len(steps) == 2
    assert_same(plain, tracked)
    for name, points in tensorboard_curves(folder).items():
        values = [(step.step, getattr(step, name.removeprefix("train/"))) for step in tracked.history]
        assert points == [(step, pytest.approx(value, rel=1e-6)) for step, value in values], name


def test_a_checkpoint_is_safetensors_json_and_the_mark_alone(
    tmp_path: Path, run: Run, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    kill(run, rows, lora, train_settings, tmp_path)
    [place] = tmp_path.iterdir()
    assert place.name == "checkpoint-4"
    assert sorted(path.name for path in place.iterdir()) == FILES
    assert (place / "whole").read_bytes() == b""
    state = load_file(place / "state.safetensors")
    weights = [name for name in state if name.startswith("weight ")]
    assert len(weights) == 8  # A and B of two modules in two layers
    assert len(state) == len(weights) * 4  # and two moments and a step count of each
    assert [step["step"] for step in read_json(place / "history.json")] == [1, 2, 3, 4]


@pytest.mark.parametrize("lost", [*FILES, "everything"])
def test_a_checkpoint_that_a_kill_left_half_written_is_never_resumed(
    tmp_path: Path, run: Run, rows: list[Encoded], lora: Lora, train_settings: Train, lost: str
) -> None:
    """The one of step 4 is whole; that of step 6, which has the higher number, is not."""
    whole = run(rows, lora, train_settings, tmp_path / "whole")
    killed = tmp_path / "killed"
    kill(run, rows, lora, train_settings, killed)
    half = killed / "checkpoint-6"
    shutil.copytree(killed / "checkpoint-4", half)
    (half / "whole").unlink()  # what is written last
    for path in half.iterdir():
        if lost in ("everything", path.name):
            path.unlink()
    with steps_run() as steps:
        resumed = run(rows, lora, train_settings, killed)
    assert len(steps) == 2
    assert_same(whole, resumed)


def test_one_whole_checkpoint_is_kept_and_a_kill_while_one_is_removed_does_no_harm(
    tmp_path: Path,
    run: Run,
    rows: list[Encoded],
    lora: Lora,
    train_settings: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kill(run, rows, lora, train_settings, tmp_path)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: os._exit(9))
        if not (child := os.fork()):
            forget_checkpoints(tmp_path)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (tmp_path / "checkpoint-4/state.safetensors").is_file()
    assert last_checkpoint(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_training_that_was_killed_after_its_last_step_is_not_run_again(
    tmp_path: Path, run: Run, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    whole = run(rows, lora, train_settings, tmp_path)
    with steps_run() as steps:
        again = run(rows, lora, train_settings, tmp_path)
    assert not steps
    assert_same(whole, again)


def test_checkpoints_are_forgotten_wholly(
    tmp_path: Path, run: Run, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    run(rows, lora, train_settings, tmp_path / "checkpoints")
    assert last_checkpoint(tmp_path / "checkpoints")
    forget_checkpoints(tmp_path / "checkpoints")
    assert not list(tmp_path.iterdir())
