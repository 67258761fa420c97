"""An adapter that is part of the base model: the same model as in stock PEFT, whatever its configuration."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from laboratory import REPOSITORY
from sapo.answers.greedy import generate
from sapo.artifacts.base_model import ADAPTER, read_base
from sapo.config import Lora, Model
from sapo.lora.current import apply_update
from sapo.lora.stack import load_adapter, save_adapter, stack
from sapo.lora.updated import UpdatedLinear
from sapo.models.load import load_model
from sapo.models.make import make_base
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.runtime.errors import ArtifactError, DataError
from sapo.selection.loss import RowLosses
from sapo.training.card import model_card
from sapo.training.new_lora import new_lora
from tiny import MODULES, learned, lineage_of, logits, peft_adapter

CONFIGS: dict[str, dict[str, Any]] = {
    "list": {"target_modules": ["q_proj", "down_proj"], "r": 5, "lora_alpha": 7},
    "regex": {"target_modules": r".*layers\.1\..*(q|o)_proj", "r": 2, "lora_alpha": 9},
    "all-linear, rank-stabilised": {
        "target_modules": "all-linear",
        "r": 4,
        "lora_alpha": 3,
        "use_rslora": True,
    },
    "patterns": {
        "target_modules": ["q_proj", "up_proj"],
        "rank_pattern": {"layers.0.self_attn.q_proj": 7, "up_proj": 1},
        "alpha_pattern": {"^model.layers.1.self_attn.q_proj": 31},
    },
    "some layers": {"target_modules": ["v_proj", "gate_proj"], "layers_to_transform": [1]},
    "all but some": {"target_modules": ["v_proj", "k_proj"], "exclude_modules": r".*0\.self_attn\.k_proj"},
    "drawn otherwise": {"target_modules": ["v_proj"], "init_lora_weights": "gaussian", "lora_dropout": 0.1},
}


def model_of(adapter: Path | None) -> Model:
    content = yaml.safe_load((REPOSITORY / "conf/model/tiny_llama.yaml").read_text())
    return Model.model_validate(content | {"adapter": str(adapter) if adapter else None})


def based_on(tiny_base: Path, adapter: Path | None, folder: Path) -> Path:
    """models/base/ of the tiny model with the adapter."""
    folder.mkdir()
    make_base(model_of(adapter), folder, seed=0)
    return folder


def losses(model: PreTrainedModel, rows: Sequence[Encoded], encoder: PromptEncoder) -> Tensor:
    return torch.tensor(RowLosses(model, rows, encoder.end_of_turn, 400)(range(len(rows))))


def answers(model: PreTrainedModel, rows: Sequence[Encoded], encoder: PromptEncoder) -> list[list[int]]:
    return generate(model, rows, {encoder.end_of_turn}, encoder.end_of_turn, 6, 400, "")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_losses_and_greedy_answers_are_those_of_stock_peft(
    tiny_base: Path,
    tmp_path: Path,
    new_model: Callable[[], PreTrainedModel],
    rows: list[Encoded],
    encoder: PromptEncoder,
    config: dict[str, Any],
) -> None:
    adapter = peft_adapter(new_model(), tmp_path / "mine", **config)
    ours = load_model(based_on(tiny_base, adapter, tmp_path / "base"), "float32")
    stock = PeftModel.from_pretrained(new_model(), str(adapter)).eval()
    active = losses(stock.get_base_model(), rows, encoder)
    merged = stock.merge_and_unload()
    for expected in (active, losses(merged, rows, encoder)):
        torch.testing.assert_close(losses(ours, rows, encoder), expected, rtol=1e-5, atol=1e-4)
    assert answers(ours, rows, encoder) == answers(merged, rows, encoder)
    assert (losses(new_model(), rows, encoder) - active).abs().max() > 0.02


def test_tasks_are_stacked_on_base_and_adapter_as_in_stock_peft(
    tiny_base: Path, tmp_path: Path, new_model: Callable[[], PreTrainedModel], lora: Lora
) -> None:
    """In float32 to rounding; in bfloat16 no farther from float32 than stock PEFT."""
    adapter = peft_adapter(new_model(), tmp_path / "mine", target_modules=["q_proj", "up_proj"], r=4)
    base = based_on(tiny_base, adapter, tmp_path / "base")
    trained = learned(load_model(base, "float32"), lora, 5)
    state = {k: v for k, v in trained.state_dict().items() if "lora_" in k}
    state = {key.replace(".default", ""): tensor for key, tensor in state.items()}
    lineage = lineage_of(base, lora)
    folder = tmp_path / "task"
    folder.mkdir()
    save_adapter(folder, stack(None, state), MODULES, lineage, model_card(lineage))
    saved = load_adapter(folder, read_base(base).fingerprint)

    def stock(dtype: torch.dtype) -> torch.nn.Module:
        model = PeftModel.from_pretrained(new_model(), str(adapter)).merge_and_unload().to(dtype)
        return PeftModel.from_pretrained(model, str(folder)).eval()

    exact = logits(stock(torch.float32)).double()
    for dtype in ("float32", "bfloat16"):
        model = load_model(base, dtype)
        apply_update(model, saved)
        error = (logits(model).double() - exact).norm() / exact.norm()
        if dtype == "float32":
            assert error < 1e-5
            continue
        both = model.get_submodule("model.layers.0.self_attn.q_proj")
        assert isinstance(both, UpdatedLinear)
        assert both.a.shape[0] == 4 + lora.r
        theirs = (logits(stock(torch.bfloat16)).double() - exact).norm() / exact.norm()
        assert error < 1.2 * theirs
        # As it trains: a fresh LoRA changes nothing, and nothing is rounded twice
        again = new_lora(model, lora, MODULES, 0)
        torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=0)
    assert "another, wrong model" in (folder / "README.md").read_text()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] is None


def test_the_adapter_is_copied_hashed_and_part_of_the_fingerprint(
    tiny_base: Path, tmp_path: Path, new_model: Callable[[], PreTrainedModel]
) -> None:
    adapter = peft_adapter(new_model(), tmp_path / "mine", target_modules=["q_proj"])
    (adapter / "optimizer.bin").write_bytes(b"\x80")  # what a trainer leaves beside is no part of it
    base = based_on(tiny_base, adapter, tmp_path / "base")
    about, names = read_base(base), {"adapter_config.json", "adapter_model.safetensors"}
    assert about.adapter
    assert about.adapter.sha256.keys() == names
    assert {path.name for path in (base / ADAPTER).iterdir()} == names
    assert read_base(tiny_base).adapter is None
    other = peft_adapter(new_model(), tmp_path / "other", target_modules=["q_proj"], seed=1)
    third = read_base(based_on(tiny_base, other, tmp_path / "third")).fingerprint
    assert len({about.fingerprint, third, read_base(tiny_base).fingerprint}) == 3
    (base / ADAPTER / "adapter_config.json").write_text("{}")
    with pytest.raises(
        ArtifactError, match=r"adapter is not the adapter that .*base\.json records: see adapter_"
    ):
        load_model(base, "float32")


def test_an_adapter_of_ours_goes_on_from_its_own_base_model_alone(
    tiny_base: Path, tmp_path: Path, new_model: Callable[[], PreTrainedModel], lora: Lora
) -> None:
    first = peft_adapter(new_model(), tmp_path / "first", target_modules=["q_proj"])
    on_first = based_on(tiny_base, first, tmp_path / "on_first")
    for base, fits in ((tiny_base, True), (on_first, False)):
        folder = tmp_path / f"of_{base.name}"
        peft_adapter(new_model(), folder, target_modules=MODULES)
        lineage_of(base, lora).write(folder)
        if fits:
            based_on(tiny_base, folder, tmp_path / "made")
        else:
            with pytest.raises(
                DataError, match=r"was trained on tiny_llama .* and this base model is another"
            ):
                based_on(tiny_base, folder, tmp_path / "refused")


def test_an_adapter_of_another_method_is_told_from_lora(tmp_path: Path, new_model: Callable[[], Any]) -> None:
    """PEFT's DoRA has a magnitude beside A and B; rank-stabilised LoRA has not."""
    get_peft_model(new_model(), LoraConfig(use_dora=True, target_modules=["q_proj"])).save_pretrained(
        tmp_path
    )
    with pytest.raises(DataError, match=r"use_dora = True cannot be used"):
        make_base(model_of(tmp_path), tmp_path, seed=0)
