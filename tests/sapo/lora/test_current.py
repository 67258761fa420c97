"""The model as it is now: earlier updates in its weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import get_peft_model_state_dict
from transformers import PreTrainedModel

from sapo.artifacts.base_model import read_base
from sapo.config import Lora
from sapo.lora.current import fold
from sapo.lora.stack import Adapter, load_adapter, save_adapter, stack
from sapo.runtime.errors import OtherRunError
from tiny import MODULES, learned, lineage_of


@pytest.fixture
def adapter(tmp_path: Path, tiny_base: Path, new_model: Callable[[], PreTrainedModel], lora: Lora) -> Adapter:
    """Of one task that has learned something."""
    state = get_peft_model_state_dict(learned(new_model(), lora, 1))
    save_adapter(tmp_path, stack(None, state), MODULES, lineage_of(tiny_base, lora), "card")
    return load_adapter(tmp_path, read_base(tiny_base).fingerprint)


def test_an_update_is_computed_in_float32_and_rounded_once(
    new_model: Callable[[], PreTrainedModel], adapter: Adapter
) -> None:
    plain, half = new_model(), new_model().bfloat16()
    start = {name: half.get_submodule(name).weight.float() for name in adapter.a}
    fold(plain, adapter)
    fold(half, adapter)
    for name, a in adapter.a.items():
        update = adapter.scaling * adapter.b[name] @ a
        assert torch.equal(half.get_submodule(name).weight, (start[name] + update).bfloat16())
        exact = new_model().get_submodule(name).weight + update
        torch.testing.assert_close(plain.get_submodule(name).weight, exact, rtol=0, atol=1e-6)


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
            fold(model, wrong)
        for mine, untouched in zip(model.parameters(), new_model().parameters(), strict=True):
            assert torch.equal(mine, untouched)
