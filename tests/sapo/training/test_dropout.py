"""What is dropped belongs to a module, a step and a row; the pieces of a training change nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from sapo.config import Lora, Train
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import prefix_length
from sapo.runtime.errors import DataError
from sapo.selection.loss import RowLosses
from sapo.training import loop
from sapo.training.dropout import Draws, RowDropout
from sapo.training.loop import Trained, train_task
from sapo.training.new_lora import new_lora
from tiny import MODULES, NewModel

Run = Callable[..., Trained]
RATE = 0.4
PIECES: list[dict[str, Any]] = [
    {"batch_tokens": 1},  # row by row
    {"batch_tokens": 250},
    {"gradient_checkpointing": True},
    {"gradient_checkpointing": True, "batch_tokens": 1},
    {"checkpoints": 1},
]


@pytest.fixture
def dropping(lora: Lora) -> Lora:
    return lora.model_copy(update={"dropout": RATE})


def assert_close(one: Trained, other: Trained) -> None:
    """To rounding."""
    for name, tensor in one.state.items():
        torch.testing.assert_close(other.state[name], tensor, rtol=0, atol=1e-5, msg=name)
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-5)


@pytest.mark.parametrize("pieces", PIECES, ids=str)
def test_what_is_dropped_does_not_depend_on_the_pieces(
    tmp_path: Path,
    run: Run,
    rows: list[Encoded],
    dropping: Lora,
    train_settings: Train,
    pieces: dict[str, Any],
) -> None:
    whole = run(rows, dropping, train_settings, tmp_path / "whole")
    assert_close(whole, run(rows, dropping, train_settings.model_copy(update=pieces), tmp_path / "pieces"))


def test_a_prefix_that_is_not_shared_changes_nothing(
    tmp_path: Path,
    run: Run,
    rows: list[Encoded],
    dropping: Lora,
    train_settings: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = run(rows, dropping, train_settings, tmp_path / "shared")
    monkeypatch.setattr(loop, "shared_prefix", lambda *_: (0, "as where it cannot work"))
    assert_close(shared, run(rows, dropping, train_settings, tmp_path / "whole"))


def test_dropout_drops_or_the_tests_above_show_nothing(
    tmp_path: Path, run: Run, rows: list[Encoded], lora: Lora, dropping: Lora, train_settings: Train
) -> None:
    plain, dropped = (
        run(rows, some, train_settings, tmp_path / str(some.dropout)) for some in (lora, dropping)
    )
    assert max((dropped.state[name] - tensor).abs().max() for name, tensor in plain.state.items()) > 1e-2


def test_after_training_nothing_is_dropped(
    tmp_path: Path,
    new_model: Callable[[], PreTrainedModel],
    rows: list[Encoded],
    dropping: Lora,
    train_settings: Train,
) -> None:
    model = new_lora(new_model(), dropping, ["q_proj"], 0)
    train_task(model, rows, train=train_settings, seed=0, pad=2, checkpoints=tmp_path)
    measured = RowLosses(model, rows, 2, 1000)(range(len(rows)))
    for module in model.modules():
        if isinstance(module, RowDropout):
            module.rate = 0.0
    assert RowLosses(model, rows, 2, 1000)(range(len(rows))) == measured


OWN_DROPOUT = {  # architectures whose configuration names dropout of the model's own, and the layers to adapt
    "gpt_neox": (
        {"intermediate_size": 64, "attention_dropout": 0.3, "hidden_dropout": 0.3},
        ["query_key_value"],
    ),
    "opt": (
        {
            "ffn_dim": 64,
            "word_embed_proj_dim": 32,
            "dropout": 0.3,
            "attention_dropout": 0.3,
            "layerdrop": 0.3,
        },
        ["q_proj", "v_proj"],
    ),
    "llama": ({"num_key_value_heads": 2, "attention_dropout": 0.3}, ["q_proj", "down_proj"]),
}


@pytest.mark.parametrize("pieces", [{"batch_tokens": 1}, {"gradient_checkpointing": True}], ids=str)
@pytest.mark.parametrize("architecture", OWN_DROPOUT)
def test_what_the_model_itself_would_drop_depends_on_no_pieces_either(
    tmp_path: Path,
    rows: list[Encoded],
    dropping: Lora,
    train_settings: Train,
    architecture: str,
    pieces: dict[str, Any],
) -> None:
    options, modules = OWN_DROPOUT[architecture]

    def made() -> PreTrainedModel:
        config = AutoConfig.for_model(
            architecture,
            vocab_size=300,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=2048,
            **({"intermediate_size": 64} if architecture == "llama" else {}),
            **options,
        )
        torch.manual_seed(3)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        return model

    def trained(folder: Path, **changes: Any) -> Trained:
        adapted = new_lora(made(), dropping, modules, seed=5)
        train = train_settings.model_copy(update=changes)
        return train_task(adapted, rows, train=train, seed=5, pad=0, checkpoints=folder)

    assert_close(trained(tmp_path / "whole"), trained(tmp_path / "pieces", **pieces))


# One module's draws


@pytest.fixture
def model(new_model: NewModel, dropping: Lora) -> PeftModel:
    return new_lora(new_model(), dropping, MODULES, seed=5)


def dropouts(model: PeftModel) -> Iterator[RowDropout]:
    return (module for module in model.modules() if isinstance(module, RowDropout))


def test_each_module_step_row_and_seed_has_draws_of_its_own(model: PeftModel, rows: list[Encoded]) -> None:
    common = prefix_length(rows)
    x = torch.ones(2, len(rows[0].prompt) + len(rows[0].answer) - 1, 8)

    def drawn(seed: int = 5, step: int = 1, number: int = 0, name: str = "one") -> torch.Tensor:
        draws = Draws(model, seed, common)
        draws.step = step
        draws.run_batch([rows[0], rows[0]], [number, number + 1], 0)
        return draws.dropped(name, 0.5, x)

    first = drawn()
    assert torch.equal(drawn(), first)
    for changes in ({"seed": 6}, {"step": 2}, {"name": "other"}):
        assert not torch.equal(drawn(**changes)[0, common:], first[0, common:])
        assert not torch.equal(drawn(**changes)[0, :common], first[0, :common])
    assert not torch.equal(first[0, common:], first[1, common:])
    assert torch.equal(first[0, :common], first[1, :common])  # one draw a step for what all rows share
    assert torch.equal(drawn(number=1)[0], first[1])


def test_so_many_are_dropped_and_the_others_weigh_more(model: PeftModel, rows: list[Encoded]) -> None:
    draws = Draws(model, 5, prefix_length(rows))
    assert len(list(dropouts(model))) == 4  # two layers, query and value
    draws.run_batch(rows, range(len(rows)), 0)
    x = torch.ones(len(rows), max(len(row.prompt) + len(row.answer) for row in rows) - 1, 90)
    for dropout in dropouts(model):
        out = dropout(x)
        kept = out[:, -20:]  # no padding is among a row's last
        assert kept.unique().tolist() == pytest.approx([0, 1 / (1 - RATE)])
        assert (kept == 0).float().mean() == pytest.approx(RATE, abs=0.06)
        assert out.dtype == x.dtype
        assert dropout(x.bfloat16()).dtype == torch.bfloat16


def test_a_row_keeps_its_draws_whatever_else_runs_with_it(model: PeftModel, rows: list[Encoded]) -> None:
    """Beside longer rows, behind a shared prefix, as one long list of tokens, and at its last positions."""
    draws = Draws(model, 5, common := prefix_length(rows))
    length = [len(row.prompt) + len(row.answer) - 1 for row in rows]
    draws.run_batch(rows[:1], [0], 0)
    alone = draws.dropped("m", RATE, torch.ones(1, length[0], 8))[0]
    draws.run_batch(rows, range(len(rows)), 0)
    whole = draws.dropped("m", RATE, torch.ones(len(rows), max(length), 8))
    assert torch.equal(whole[0, -length[0] :], alone)
    flat = draws.dropped("m", RATE, torch.ones(len(rows) * max(length), 8))
    assert torch.equal(flat, whole.flatten(0, 1))
    assert torch.equal(draws.dropped("m", RATE, torch.ones(len(rows), 3, 8)), whole[:, -3:])
    draws.run_batch(rows[:2], [0, 1], common)
    behind = draws.dropped("m", RATE, torch.ones(2, max(length[:2]) - common, 8))
    assert torch.equal(behind[0, -(length[0] - common) :], alone[common:])
    draws.run_shared()
    assert torch.equal(draws.dropped("m", RATE, torch.ones(1, common, 8))[0], alone[:common])


def test_a_module_that_does_not_see_rows_is_refused_by_its_name(
    model: PeftModel, rows: list[Encoded]
) -> None:
    draws = Draws(model, 5, 0)
    draws.run_batch(rows[:2], [0, 1], 0)
    with pytest.raises(DataError, match=r"^lora\.dropout = 0\.4 cannot be used with gate_proj of [^\n]*$"):
        draws.dropped("model.layers.0.gate_proj", RATE, torch.ones(7, 8))
