"""The training loop: its steps, its loss and terms, against the plainest way and against Trainer."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainingArguments

from sapo.config import Lora, Train
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import prefix_length
from sapo.runtime.errors import DataError
from sapo.training.loop import Trained, shared_prefix, step_rows, train_task
from sapo.training.new_lora import new_lora, orthogonal_penalty
from tiny import MODULES, NewModel, new_a

Run = Callable[..., Trained]


def losses(trained: Trained) -> list[float]:
    return [step.loss for step in trained.history]


def test_losses_rates_and_weights_are_those_of_trainer(
    tmp_path: Path, new_model: NewModel, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    """transformers.Trainer on whole padded rows, in the same order: no prefix, no batches of our own."""
    train = train_settings.model_copy(
        update={"learning_rate": 0.002, "warmup_ratio": 0.3, "max_grad_norm": 0.2, "batch_tokens": 100_000}
    )
    mine, theirs = (new_lora(new_model(), lora, MODULES, seed=5) for _ in range(2))
    trained = train_task(mine, rows, train=train, seed=5, pad=0, checkpoints=tmp_path / "ours")

    def padded(batch: list[Encoded]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row.prompt + row.answer) for row in batch]
        labels = [torch.tensor([-100] * len(row.prompt) + row.answer) for row in batch]
        return {
            "input_ids": pad_sequence(ids, batch_first=True),
            "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        }

    steps = step_rows(len(rows), train.epochs, train.batch_size, seed=5)
    settings = TrainingArguments(
        output_dir=str(tmp_path / "theirs"),
        num_train_epochs=1,  # the rows of all epochs are laid out one after another
        train_sampling_strategy="sequential",
        per_device_train_batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=train.warmup_ratio,
        max_grad_norm=train.max_grad_norm,
        optim="adamw_torch_fused",
        weight_decay=0.0,
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
        report_to=[],
        use_cpu=True,
    )
    order: Any = [rows[number] for step in steps for number in step]
    trainer = Trainer(model=theirs, args=settings, train_dataset=order, data_collator=padded)
    trainer.train()
    expected = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(expected) == len(trained.history) == 6
    for ours, other in zip(trained.history, expected, strict=True):
        assert ours.loss == pytest.approx(other["loss"], rel=1e-6)
        assert ours.grad_norm == pytest.approx(other["grad_norm"], rel=1e-6)
        assert ours.learning_rate == pytest.approx(other["learning_rate"], rel=1e-12)
        assert ours.grad_norm > train.max_grad_norm  # it is clipped, or the test shows nothing
    for name, tensor in get_peft_model_state_dict(theirs).items():
        assert tensor.abs().max() > 1e-3
        torch.testing.assert_close(trained.state[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_the_loss_falls_and_the_trajectory_repeats(
    tmp_path: Path, run: Run, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    longer = train_settings.model_copy(update={"epochs": 6})
    first = run(rows, lora, longer, tmp_path / "a")
    second = run(rows, lora, longer, tmp_path / "b")
    assert fmean(losses(first)[-6:]) < losses(first)[0] - 0.1
    assert first.history == second.history
    assert all(torch.equal(tensor, second.state[name]) for name, tensor in first.state.items())
    assert len(first.history) == 18  # 12 rows, batches of 4, 6 epochs
    rates = [entry.learning_rate for entry in first.history]
    assert rates[0] <= rates[1] == max(rates)
    assert rates[-1] < 0.1 * max(rates)


def test_fault_15_gradient_accumulation_changes_neither_loss_nor_penalty(
    tmp_path: Path, run: Run, new_model: NewModel, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    a = new_a(new_lora(new_model(), lora, MODULES, seed=9))
    whole = train_settings.model_copy(update={"batch_size": 12, "batch_tokens": 100_000})
    parts = train_settings.model_copy(update={"batch_size": 12, "batch_tokens": 300})
    one = run(rows, lora, whole, tmp_path / "a", earlier_a=a, orthogonal_weight=0.5)
    four = run(rows, lora, parts, tmp_path / "b", earlier_a=a, orthogonal_weight=0.5)
    assert losses(four) == pytest.approx(losses(one), rel=1e-4)
    assert [e.grad_norm for e in four.history] == pytest.approx([e.grad_norm for e in one.history], rel=1e-3)


def test_the_penalty_turns_new_directions_away_from_earlier_ones(
    tmp_path: Path, new_model: NewModel, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    a = new_a(new_lora(new_model(), lora, MODULES, seed=9))
    overlap = {}
    for weight in (0.0, 0.5):
        adapted = new_lora(new_model(), lora, MODULES, seed=5)
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


def test_a_loss_that_is_not_finite_stops_with_a_clear_error(
    tmp_path: Path, new_model: NewModel, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    adapted = new_lora(new_model(), lora, MODULES, seed=5)
    torch.nn.init.constant_(adapted.get_input_embeddings().weight, float("nan"))
    with pytest.raises(DataError, match=r"training loss is nan at step 1: lower train\.learning_rate"):
        train_task(adapted, rows, train=train_settings, seed=5, pad=0, checkpoints=tmp_path)


def test_no_rows_are_an_error(tmp_path: Path, run: Run, lora: Lora, train_settings: Train) -> None:
    with pytest.raises(DataError, match="at least one training row"):
        run([], lora, train_settings, tmp_path)


def test_fault_20_one_training_row_is_enough(
    tmp_path: Path, run: Run, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    one_epoch = train_settings.model_copy(update={"epochs": 1})
    trained = run(rows[:1], lora, one_epoch, tmp_path)
    assert len(trained.history) == 1
    assert trained.history[0].learning_rate > 0
    assert any(tensor.abs().max() > 0 for name, tensor in trained.state.items() if "lora_B" in name)


def test_the_prefix_is_shared_where_it_works_and_pays_and_the_log_says_so(
    tmp_path: Path,
    run: Run,
    rows: list[Encoded],
    lora: Lora,
    train_settings: Train,
    caplog: pytest.LogCaptureFixture,
) -> None:
    common = prefix_length(rows)
    assert shared_prefix(rows, common, train_settings, sharded=False)[0] == common
    assert shared_prefix(rows, 0, train_settings, sharded=False)[0] == 0
    assert shared_prefix(rows, common, train_settings, sharded=True)[0] == 0
    for change in ({"gradient_checkpointing": True}, {"batch_size": 1}):
        assert shared_prefix(rows, common, train_settings.model_copy(update=change), sharded=False)[0] == 0
    caplog.set_level("INFO", "sapo")
    one_epoch = train_settings.model_copy(update={"epochs": 1})
    run(rows, lora, one_epoch, tmp_path)
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


def test_gradient_checkpointing_computes_twice_and_changes_nothing(
    tmp_path: Path, new_model: NewModel, rows: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    plain = train_settings.model_copy(update={"batch_size": 1, "epochs": 1})  # nothing is shared in either
    passes, trained = {}, {}
    for twice in (False, True):
        adapted, calls = new_lora(new_model(), lora, MODULES, seed=5), []
        base: Any = adapted.get_base_model()
        base.model.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        train = plain.model_copy(update={"gradient_checkpointing": twice})
        folder = tmp_path / str(twice)
        trained[twice] = train_task(adapted, rows, train=train, seed=5, pad=0, checkpoints=folder)
        passes[twice] = len(calls)
    assert passes == {False: len(rows), True: 2 * len(rows)}
    assert losses(trained[True]) == pytest.approx(losses(trained[False]), rel=1e-6)
    for name, tensor in trained[False].state.items():
        torch.testing.assert_close(trained[True].state[name], tensor, rtol=0, atol=1e-6, msg=name)
