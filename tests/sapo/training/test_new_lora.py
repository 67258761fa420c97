"""A task's new LoRA, and the term that keeps it away from earlier ones."""

import pytest

from sapo.config import Lora
from sapo.runtime.errors import DataError
from sapo.training.new_lora import new_lora, orthogonal_penalty
from tiny import MODULES, NewModel, new_a


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
