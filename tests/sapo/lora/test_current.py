"""The model as it is now: earlier updates in its weights, or beside them."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel

from sapo.artifacts.base_model import read_base
from sapo.config import Lora
from sapo.lora.current import apply_update
from sapo.lora.stack import Adapter, load_adapter, save_adapter, stack
from sapo.lora.updated import UpdatedLinear
from sapo.runtime.errors import OtherRunError
from tiny import MODULES, learned, lineage_of


@pytest.fixture
def adapter(tmp_path: Path, tiny_base: Path, new_model: Callable[[], PreTrainedModel], lora: Lora) -> Adapter:
    """Of one task that has learned something."""
    state = get_peft_model_state_dict(learned(new_model(), lora, 1))
    save_adapter(tmp_path, stack(None, state), MODULES, lineage_of(tiny_base, lora), "card")
    return load_adapter(tmp_path, read_base(tiny_base).fingerprint)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [1.0, 0.1, 0.01])
def test_the_update_in_use_is_the_saved_one_in_every_dtype_and_size(
    new_model: Callable[[], PreTrainedModel], adapter: Adapter, dtype: torch.dtype, size: float
) -> None:
    adapter = replace(adapter, b={name: size * b for name, b in adapter.b.items()})
    model, plain = new_model().to(dtype), new_model().to(dtype)
    apply_update(model, adapter)
    for name, a in adapter.a.items():
        saved = adapter.scaling * adapter.b[name].double() @ a.double()
        module = model.get_submodule(name)
        used = module.weight.double() - plain.get_submodule(name).weight.double()
        if isinstance(module, UpdatedLinear):
            used = used + module.b.double() @ module.a.double()
        assert (used - saved).norm() <= 1e-3 * saved.norm()
        # The layer does compute with it: one more rounding, that of its result
        x = torch.randn(64, a.shape[1], generator=torch.Generator().manual_seed(0)).to(dtype)
        exact = x.double() @ (plain.get_submodule(name).weight.double() + saved).T
        assert torch.nn.functional.mse_loss(module(x).double(), exact) <= 1.2 * torch.nn.functional.mse_loss(
            exact.to(dtype).double(), exact
        ) + (1e-12 if dtype == torch.float32 else plain_error(plain.get_submodule(name), x))


def plain_error(module: torch.nn.Module, x: torch.Tensor) -> float:
    """The mean squared error of the layer without an update."""
    exact = x.double() @ module.weight.double().T  # type: ignore[union-attr, operator]
    return torch.nn.functional.mse_loss(module(x).double(), exact).item()


def logits(model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=rows).logits.double()
    return found


@pytest.mark.parametrize("size", [1.0, 0.1])
def test_bfloat16_is_no_farther_from_float32_than_stock_peft(
    tmp_path: Path,
    tiny_base: Path,
    new_model: Callable[[], PreTrainedModel],
    lora: Lora,
    size: float,
) -> None:
    """As trained, and as scored, after three tasks, over 64 rows."""
    base, adapter = new_model().bfloat16(), None
    for task in range(3):
        model = copy.deepcopy(base)
        if adapter:
            apply_update(model, adapter)
        trained = learned(model, lora, task)
        state = {
            key: tensor * (size if "lora_B" in key else 1.0)
            for key, tensor in get_peft_model_state_dict(trained).items()
        }
        set_peft_model_state_dict(trained, state)
        folder = tmp_path / str(task)
        folder.mkdir()
        names = [f"Task {number}." for number in range(task + 1)]
        save_adapter(folder, stack(adapter, state), MODULES, lineage_of(tiny_base, lora, names), "card")
        adapter = load_adapter(folder, read_base(tiny_base).fingerprint)
    scored = copy.deepcopy(base)
    apply_update(scored, adapter)
    stock = PeftModel.from_pretrained(copy.deepcopy(base), str(folder)).eval()
    exact = PeftModel.from_pretrained(copy.deepcopy(base).float(), str(folder)).eval()
    rows = torch.randint(3, 250, (64, 24), generator=torch.Generator().manual_seed(0))
    expected = logits(exact, rows)
    allowed = (logits(stock, rows) - expected).flatten(1).norm(dim=1)
    for ours in (trained.eval(), scored):
        found = (logits(ours, rows) - expected).flatten(1).norm(dim=1)
        assert found.mean() <= 1.1 * allowed.mean()
        assert found.max() <= 1.1 * allowed.max()


def test_modules_that_are_not_the_model_s_are_refused_before_any_change(
    new_model: Callable[[], PreTrainedModel], adapter: Adapter
) -> None:
    *others, last = adapter.a
    fewer = replace(adapter, a={name: adapter.a[name] for name in others})
    renamed = replace(adapter, a={**fewer.a, "model.nowhere": adapter.a[last]})
    narrower = replace(adapter, a={**fewer.a, last: adapter.a[last][:, :-1]})
    for wrong in (fewer, renamed, narrower):
        model = new_model()
        with pytest.raises(OtherRunError, match=r"differ in these modules|has shape"):
            apply_update(model, wrong)
        for mine, untouched in zip(model.parameters(), new_model().parameters(), strict=True):
            assert torch.equal(mine, untouched)
