"""The model as it is now: the base model with the updates of all tasks learned so far.

Selection, training and evaluation use this one function.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from sapo.artifacts.base_model import BASE_FOLDER, read_base
from sapo.artifacts.lineage import model_folder
from sapo.config import Params
from sapo.lora.stack import Adapter, load_adapter
from sapo.lora.targets import adapted_modules
from sapo.models.devices import device
from sapo.models.load import load_model
from sapo.runtime.errors import OtherRunError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def current_adapter(learned: Sequence[str]) -> Adapter | None:
    """The adapter after the tasks `learned`, in order; None before the first. ArtifactError for any other."""
    return load_adapter(model_folder(learned[-1]), read_base().fingerprint, learned) if learned else None


def current_model(params: Params, adapter: Adapter | None, dtype: str | None = None) -> "PreTrainedModel":
    """The base model with the adapter's update, in `dtype` if not in the model's own.

    With launch.shard it stays on the processor, for `sapo.models.devices.shard` to divide.
    """
    place = torch.device("cpu") if params.launch.shard else device()
    model = load_model(BASE_FOLDER, dtype or params.model.dtype, place)
    if adapter:
        apply_update(model, adapter)
    return model


def apply_update(model: "PreTrainedModel", adapter: Adapter) -> None:
    """Add scaling * B @ A to the model's weights in memory.

    float32 weights take it in: the same cost after every task. Weights of fewer bits would round most of a
    small update away: there it stays beside them, in float32, as in PEFT. Raises OtherRunError, before any
    change, where the adapter's modules are not the model's.
    """
    _check_fits(model, adapter)
    for name, a in adapter.a.items():
        module: Any = model.get_submodule(name)
        place = module.weight.device
        a, b = a.to(place), (adapter.scaling * adapter.b[name]).to(place)
        if module.weight.dtype == torch.float32:
            with torch.no_grad():
                module.weight += b @ a
        else:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, UpdatedLinear(module, a, b))


class UpdatedLinear(torch.nn.Linear):
    """A frozen linear layer with an update of low rank, b (out, R) @ a (R, in), beside its weight (out, in).

    rounded: whether the sum, which is computed in float32, is given in the weights' dtype.
    """

    a: Tensor
    b: Tensor

    def __init__(self, module: torch.nn.Linear, a: Tensor, b: Tensor) -> None:
        super().__init__(module.in_features, module.out_features, bias=False, device="meta")
        self.weight, self.bias, self.rounded = module.weight, module.bias, True
        self.register_buffer("a", a, persistent=False)
        self.register_buffer("b", b, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in)."""
        result = linear(x, self.weight, self.bias) + linear(linear(x.float(), self.a), self.b)
        return result.to(x.dtype) if self.rounded else result


def round_once(model: torch.nn.Module) -> None:
    """Let a new LoRA on an UpdatedLinear be added before the one rounding, as in PEFT's own layers."""
    for module in model.modules():
        inner = getattr(module, "base_layer", None)
        if isinstance(inner, UpdatedLinear):
            inner.rounded, dtype = False, inner.weight.dtype
            module.register_forward_hook(lambda _, __, result, dtype=dtype: result.to(dtype))


def _check_fits(model: "PreTrainedModel", adapter: Adapter) -> None:
    weights = {name: module.weight for name, module in model.named_modules() if name in adapter.a}
    wanted = set(adapted_modules(model, adapter.target_modules)) or adapter.a.keys()
    if odd := sorted((wanted | adapter.a.keys()) - (adapter.a.keys() & wanted & weights.keys())):
        raise OtherRunError(f"the adapter and the model differ in these modules: {', '.join(odd):.200}")
    for name, found in weights.items():
        shape = [len(adapter.b[name]), adapter.a[name].shape[1]]
        if list(found.shape) != shape:
            raise OtherRunError(
                f"the adapter's update of {name} has shape {shape}, the model's weight {list(found.shape)}"
            )
