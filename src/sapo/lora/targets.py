"""Which modules of a model get a LoRA: PEFT's own rule, and a refusal of what could not be stacked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import check_target_module_exists

from sapo.runtime.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def adapted_modules(model: torch.nn.Module, target_modules: Sequence[str]) -> list[str]:
    """The names of the model's modules that an entry of `target_modules` names, in the model's order."""
    config = LoraConfig(target_modules=list(target_modules))
    return [name for name, _ in model.named_modules() if check_target_module_exists(config, name)]


def inner_linear(model: "PreTrainedModel") -> list[str]:
    """The names of the model's linear layers but the output layer, in the model's order."""
    outer: Any = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not outer
    ]


def check_targets(model: "PreTrainedModel", target_modules: Sequence[str]) -> None:
    """Refuse (DataError) an entry that names no module, or another one than an inner linear layer."""
    outer: Any = model.get_output_embeddings()
    inner = inner_linear(model)
    kinds = ", ".join(sorted({name.rpartition(".")[2] for name in inner})) or "none"
    for entry in target_modules:
        names = adapted_modules(model, [entry])
        if not names:
            raise DataError(
                f"model.target_modules: {type(model).__name__} has no module {entry!r}; "
                f"its linear layers: {kinds}"
            )
        if odd := [name for name in names if name not in inner]:
            module = model.get_submodule(odd[0])
            what = "the output layer" if module is outer else f"of type {type(module).__name__}"
            raise DataError(
                f"model.target_modules: {entry!r} names {odd[0]}, which is {what}: only inner linear layers "
                f"can be adapted here: {kinds}"
            )
    weights: dict[int, str] = {}
    for name in adapted_modules(model, target_modules):
        other = weights.setdefault(id(model.get_submodule(name).weight), name)
        if other != name:  # each would learn an update of its own for the one weight
            raise DataError(f"model.target_modules: {other} and {name} share one weight: name other layers")


def add_lora(model: "PreTrainedModel", config: LoraConfig) -> PeftModel:
    """The frozen model with a fresh LoRA of this configuration. Raises DataError as `check_targets` does."""
    target_modules = sorted(config.target_modules or [])
    check_targets(model, target_modules)
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise DataError(f"model.target_modules = {target_modules}: {error}") from error
    assert isinstance(adapted, PeftModel)
    return adapted
