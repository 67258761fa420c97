"""A task's new LoRA, and the term that keeps it away from earlier ones."""

from pathlib import Path

import pytest
import torch
from peft import get_peft_model_state_dict

from sapo.config import Lora
from sapo.lora.stack import Adapter, load_adapter, save_adapter, stack
from sapo.runtime.errors import DataError, OtherRunError
from sapo.training.new_lora import new_lora, orthogonal_penalty, start_from
from tiny import MODULES, NewModel, learned, lineage_of, logits, new_a


def test_fault_14_the_penalty_is_the_sum_over_modules_of_absolute_products(
    new_model: NewModel, lora: Lora
) -> None:
    a = new_a(new_lora(new_model(), lora, MODULES, seed=9))
    model = new_lora(new_model(), lora, MODULES, seed=5)
    parameters = dict(model.named_parameters())
    by_hand = 0.0
    for name, old in a.items():
        new = parameters[f"base_model.model.{name}.lora_A.default.weight"]
        by_hand += sum(abs(float((u @ v).detach())) for u in old for v in new)
    assert len(a) == 4  # two layers, query and value
    assert float(orthogonal_penalty(model, a).detach()) == pytest.approx(by_hand, rel=1e-5)


def test_fault_16_a_step_trains_the_new_lora_alone(new_model: NewModel, lora: Lora) -> None:
    model = new_lora(new_model(), lora, MODULES, seed=5)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert all(
        parameter.shape[0] == lora.r for name, parameter in model.named_parameters() if ".lora_A." in name
    )


def test_wrong_target_modules_are_an_error(new_model: NewModel, lora: Lora) -> None:
    with pytest.raises(DataError, match="target_modules"):
        new_lora(new_model(), lora, ["no_such_module"], seed=5)


def saved(folder: Path, tiny_base: Path, model: torch.nn.Module, lora: Lora) -> Adapter:
    """The model's LoRA as the next stage reads it."""
    lineage = lineage_of(tiny_base, lora)
    save_adapter(folder, stack(None, get_peft_model_state_dict(model)), MODULES, lineage, "card")
    return load_adapter(folder, lineage.base.fingerprint)


def test_a_lora_that_is_trained_on_starts_as_the_saved_one(
    tmp_path: Path, tiny_base: Path, new_model: NewModel, lora: Lora
) -> None:
    before = learned(new_model(), lora, seed=9)
    model = new_lora(new_model(), lora, MODULES, seed=5)
    start_from(model, saved(tmp_path, tiny_base, before, lora))
    state = get_peft_model_state_dict(model)
    assert all(torch.equal(state[key], tensor) for key, tensor in get_peft_model_state_dict(before).items())
    assert torch.equal(logits(model), logits(before))
    assert (logits(model) - logits(new_model())).abs().max() > 0.05
    assert all(weight.requires_grad == (".lora_" in name) for name, weight in model.named_parameters())


def test_a_lora_does_not_start_from_one_of_other_modules_or_another_rank(
    tmp_path: Path, tiny_base: Path, new_model: NewModel, lora: Lora
) -> None:
    adapter = saved(tmp_path, tiny_base, learned(new_model(), lora, seed=9), lora)
    wider = lora.model_copy(update={"r": lora.r + 1})
    for model in (
        new_lora(new_model(), lora, MODULES[:1], seed=5),
        new_lora(new_model(), lora, [*MODULES, "k_proj"], seed=5),
        new_lora(new_model(), wider, MODULES, seed=5),
    ):
        with pytest.raises(OtherRunError, match=r"differ in these modules: model\.layers\.\d\.self_attn\."):
            start_from(model, adapter)
