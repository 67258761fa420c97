import os
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
import torch
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState

from sapo.artifacts.task import Example
from sapo.config import Lora, Train
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.prompts.prefix import prefix_length
from sapo.runtime.errors import DataError
from sapo.training.loop import (
    Trained,
    forget_checkpoints,
    last_checkpoint,
    new_lora,
    orthogonal_penalty,
    shared_prefix,
    step_rows,
    train_task,
)

Model = Callable[[], PreTrainedModel]


@pytest.fixture
def rows(encoder: PromptEncoder, examples: list[Example]) -> list[Encoded]:
    return encoder.encode("Say whether it is short.", "Answer yes or no.", "en", examples, answers=True)


def run(
    new_model: Model, rows: list[Encoded], lora: Lora, train: Train, checkpoints: Path, **options: object
) -> Trained:
    adapted = new_lora(new_model(), lora, ["q_proj", "v_proj"], seed=5)
    return train_task(adapted, rows, train=train, seed=5, pad=0, checkpoints=checkpoints, **options)  # type: ignore[arg-type]


class StopAt(TrainerCallback):
    """Ends training after a step, as a kill would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: object, state: TrainerState, control: TrainerControl, **_: object) -> None:
        control.should_training_stop = state.global_step >= self.step


class Count(TrainerCallback):
    """Counts the steps that are run."""

    steps = 0

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.steps += 1


def earlier(new_model: Model, lora: Lora) -> dict[str, torch.Tensor]:
    """The A of an earlier task, module by module."""
    model = new_lora(new_model(), lora, ["q_proj", "v_proj"], seed=9)
    base = model.get_base_model()
    return {n: m.lora_A["default"].weight.detach() for n, m in base.named_modules() if hasattr(m, "lora_A")}


def losses(trained: Trained) -> list[float]:
    return [entry["loss"] for entry in trained.history]


def test_the_loss_falls_and_the_trajectory_repeats(
    tmp_path: Path, new_model: Model, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    longer = train_settings.model_copy(update={"epochs": 6})
    first = run(new_model, rows, lora, longer, tmp_path / "a")
    second = run(new_model, rows, lora, longer, tmp_path / "b")
    assert fmean(losses(first)[-6:]) < losses(first)[0] - 0.1
    assert first.history == second.history
    assert all(torch.equal(tensor, second.state[name]) for name, tensor in first.state.items())
    assert len(first.history) == 18  # 12 rows, batches of 4, 6 epochs
    rates = [entry["learning_rate"] for entry in first.history]
    assert rates[0] <= rates[1] == max(rates)
    assert rates[-1] < 0.1 * max(rates)


def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path, new_model: Model, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    with_dropout = lora.model_copy(update={"dropout": 0.1})
    whole = run(new_model, rows, with_dropout, train_settings, tmp_path / "whole")
    run(new_model, rows, with_dropout, train_settings, tmp_path / "killed", callbacks=[StopAt(4)])
    assert list((tmp_path / "killed").glob("checkpoint-4"))
    count = Count()
    resumed = run(new_model, rows, with_dropout, train_settings, tmp_path / "killed", callbacks=[count])
    assert count.steps == 2  # of 6
    assert resumed.history == whole.history
    for name, tensor in whole.state.items():
        assert torch.equal(resumed.state[name], tensor), name


@pytest.mark.parametrize("lost", ["whole", "optimizer.pt", "trainer_state.json", "everything"])
def test_a_checkpoint_that_a_kill_left_half_written_is_never_resumed(
    tmp_path: Path, new_model: Model, rows: list[Encoded], lora: Lora, train_settings: Train, lost: str
) -> None:
    """Trainer takes the folder with the highest number, whatever is in it. Here the one of step 4 is whole, that of 6 is not."""
    whole = run(new_model, rows, lora, train_settings, tmp_path / "whole")
    killed = tmp_path / "killed"
    run(new_model, rows, lora, train_settings, killed, callbacks=[StopAt(4)])
    half = killed / "checkpoint-6"
    shutil.copytree(killed / "checkpoint-4", half)
    (half / "whole").unlink()  # what is written last
    for path in half.iterdir():
        if lost in ("everything", path.name):
            path.unlink()
    count = Count()
    resumed = run(new_model, rows, lora, train_settings, killed, callbacks=[count])
    assert count.steps == 2
    assert resumed.history == whole.history


def test_one_whole_checkpoint_is_kept_and_a_kill_while_one_is_removed_does_no_harm(
    tmp_path: Path,
    new_model: Model,
    rows: list[Encoded],
    lora: Lora,
    train_settings: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(new_model, rows, lora, train_settings, tmp_path, callbacks=[StopAt(4)])
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: os._exit(9))
        if not (child := os.fork()):
            forget_checkpoints(tmp_path)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (tmp_path / "checkpoint-4/optimizer.pt").is_file()
    assert last_checkpoint(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_training_that_was_killed_after_its_last_step_is_not_run_again(
    tmp_path: Path, new_model: Model, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    whole = run(new_model, rows, lora, train_settings, tmp_path)
    count = Count()
    again = run(new_model, rows, lora, train_settings, tmp_path, callbacks=[count])
    assert count.steps == 0
    assert again.history == whole.history
    assert all(torch.equal(again.state[name], tensor) for name, tensor in whole.state.items())


def test_fault_15_gradient_accumulation_changes_neither_loss_nor_penalty(
    tmp_path: Path, new_model: Model, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    a = earlier(new_model, lora)
    whole = train_settings.model_copy(update={"batch_size": 12, "batch_tokens": 100_000})
    parts = train_settings.model_copy(update={"batch_size": 12, "batch_tokens": 300})
    one = run(new_model, rows, lora, whole, tmp_path / "a", earlier_a=a, orthogonal_weight=0.5)
    four = run(new_model, rows, lora, parts, tmp_path / "b", earlier_a=a, orthogonal_weight=0.5)
    assert losses(four) == pytest.approx(losses(one), rel=1e-4)
    assert [e["grad_norm"] for e in four.history] == pytest.approx(
        [e["grad_norm"] for e in one.history], rel=1e-3
    )


def test_fault_14_the_penalty_is_the_sum_over_modules_of_absolute_products(
    new_model: Model, lora: Lora
) -> None:
    a = earlier(new_model, lora)
    model = new_lora(new_model(), lora, ["q_proj", "v_proj"], seed=5)
    parameters = dict(model.named_parameters())
    by_hand = 0.0
    for name, old in a.items():
        new = parameters[f"base_model.model.{name}.lora_A.default.weight"]
        by_hand += sum(abs(float(u @ v)) for u in old for v in new)
    assert len(a) == 4  # two layers, query and value
    assert float(orthogonal_penalty(model, a).detach()) == pytest.approx(by_hand, rel=1e-5)


def test_the_penalty_turns_new_directions_away_from_earlier_ones(
    tmp_path: Path, new_model: Model, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    a = earlier(new_model, lora)
    overlap = {}
    for weight in (0.0, 0.5):
        adapted = new_lora(new_model(), lora, ["q_proj", "v_proj"], seed=5)
        train_task(
            adapted,
            rows,
            train=train_settings,
            seed=5,
            pad=0,
            checkpoints=tmp_path / str(weight),
            earlier_a=a,
            orthogonal_weight=weight,
        )
        overlap[weight] = float(orthogonal_penalty(adapted, a).detach())
    assert overlap[0.5] < 0.7 * overlap[0.0]


def test_fault_16_a_step_trains_the_new_lora_alone(new_model: Model, lora: Lora) -> None:
    model = new_lora(new_model(), lora, ["q_proj", "v_proj"], seed=5)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert all(
        parameter.shape[0] == lora.r for name, parameter in model.named_parameters() if ".lora_A." in name
    )


def test_a_loss_that_is_not_finite_stops_with_a_clear_error(
    tmp_path: Path, new_model: Model, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    adapted = new_lora(new_model(), lora, ["q_proj", "v_proj"], seed=5)
    torch.nn.init.constant_(adapted.get_input_embeddings().weight, float("nan"))
    with pytest.raises(DataError, match=r"training loss is nan at step 0: lower train\.learning_rate"):
        train_task(adapted, rows, train=train_settings, seed=5, pad=0, checkpoints=tmp_path)


def test_wrong_target_modules_and_no_rows_are_errors(
    tmp_path: Path, new_model: Model, lora: Lora, train_settings: Train
) -> None:
    with pytest.raises(DataError, match="target_modules"):
        new_lora(new_model(), lora, ["no_such_module"], seed=5)
    with pytest.raises(DataError, match="at least one training row"):
        run(new_model, [], lora, train_settings, tmp_path)


def test_fault_20_one_training_row_is_enough(
    tmp_path: Path, new_model: Model, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    one_epoch = train_settings.model_copy(update={"epochs": 1})
    trained = run(new_model, rows[:1], lora, one_epoch, tmp_path)
    assert len(trained.history) == 1
    assert trained.history[0]["learning_rate"] > 0
    assert any(tensor.abs().max() > 0 for name, tensor in trained.state.items() if "lora_B" in name)


def test_the_prefix_is_shared_where_it_works_and_pays_and_the_log_says_so(
    tmp_path: Path,
    new_model: Model,
    rows: list[Encoded],
    lora: Lora,
    train_settings: Train,
    caplog: pytest.LogCaptureFixture,
) -> None:
    common = prefix_length(rows)
    assert shared_prefix(rows, train_settings, sharded=False)[0] == common
    assert shared_prefix(rows, train_settings, sharded=True)[0] == 0
    assert (
        shared_prefix(
            rows, train_settings.model_copy(update={"gradient_checkpointing": True}), sharded=False
        )[0]
        == 0
    )
    assert shared_prefix(rows, train_settings.model_copy(update={"batch_size": 1}), sharded=False)[0] == 0
    caplog.set_level("INFO", "sapo")
    one_epoch = train_settings.model_copy(update={"epochs": 1})
    run(new_model, rows, lora, one_epoch, tmp_path)
    assert f"the first {common} tokens of all rows run once a step" in caplog.text


@pytest.mark.parametrize("sizes", [(12, 5), (7, 7), (1, 4), (5, 8)])
def test_every_epoch_visits_every_row_once_in_an_order_of_its_own(sizes: tuple[int, int]) -> None:
    rows, batch = sizes
    steps = step_rows(rows, 3, batch, seed=1)
    epoch = -(-rows // batch)
    orders = [
        [row for step in steps[start : start + epoch] for row in step]
        for start in range(0, len(steps), epoch)
    ]
    assert [sorted(order) for order in orders] == [list(range(rows))] * 3
    assert len({tuple(order) for order in orders}) == (3 if rows > 4 else 1)
    assert all(len(step) == batch for step in steps[: epoch - 1])
