"""A fresh LoRA for one task, and O-LoRA's term that keeps it away from earlier tasks' blocks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor

from sapo.config import Lora
from sapo.lora.stack import Adapter
from sapo.lora.targets import add_lora
from sapo.lora.updated import round_once
from sapo.runtime.errors import OtherRunError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def new_lora(model: "PreTrainedModel", lora: Lora, target_modules: Sequence[str], seed: int) -> PeftModel:
    """The frozen model with one fresh LoRA on `target_modules`. Raises DataError for others."""
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(target_modules),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    adapted = add_lora(model, config)
    round_once(adapted)
    return adapted


def start_from(model: PeftModel, adapter: Adapter) -> None:
    """Give the model's LoRA the weights of an adapter. Raises OtherRunError where it has others to hold."""
    base: Any = model.get_base_model()
    modules = {name: module for name, module in base.named_modules() if hasattr(module, "lora_A")}
    for name in modules.keys() | adapter.a.keys():
        saved = [side.get(name) for side in (adapter.a, adapter.b)]
        weights = [getattr(modules.get(name), side, {}) for side in ("lora_A", "lora_B")]
        for tensor, layer in zip(saved, weights, strict=True):
            weight = layer["default"].weight if layer else None
            if tensor is None or weight is None or tensor.shape != weight.shape:
                raise OtherRunError(f"the adapter and the model differ in these modules: {name}")
            weight.data.copy_(tensor)


def orthogonal_penalty(model: PeftModel, earlier_a: Mapping[str, Tensor]) -> Tensor:
    """The sum over modules of |A_earlier @ A_new^T|.

    This is O-LoRA's term (Wang et al. 2023, arXiv 2310.14152), with the absolute value. earlier_a: module
    name -> (earlier ranks, in), rows of all earlier tasks.
    """
    base: Any = model.get_base_model()
    terms = [
        (a @ base.get_submodule(name).lora_A["default"].weight.float().T).abs().sum()
        for name, a in earlier_a.items()
    ]
    return torch.stack(terms).sum()
