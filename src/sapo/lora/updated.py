"""A low-rank update of a linear layer's weight: in it, or beside it where its dtype would round it away."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear


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


def add_update(model: torch.nn.Module, name: str, a: Tensor, b: Tensor) -> None:
    """Add b (out, r) @ a (r, in), both float32, to the weight of the linear layer `name`, in memory.

    A float32 weight takes it in. One of fewer bits would round most of a small update away: there it stays
    beside it, in float32, as in PEFT. A second update is added to the first.
    """
    module: Any = model.get_submodule(name)
    a, b = a.to(module.weight.device), b.to(module.weight.device)
    if module.weight.dtype == torch.float32:
        with torch.no_grad():
            module.weight += b @ a
        return
    if isinstance(module, UpdatedLinear):
        a, b = torch.cat([module.a, a]), torch.cat([module.b, b], dim=1)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, UpdatedLinear(module, a, b))


def round_once(model: torch.nn.Module) -> None:
    """Let a new LoRA on an UpdatedLinear be added before the one rounding, as in PEFT's own layers."""
    for module in model.modules():
        inner = getattr(module, "base_layer", None)
        if isinstance(inner, UpdatedLinear):
            inner.rounded, dtype = False, inner.weight.dtype
            module.register_forward_hook(lambda _, __, result, dtype=dtype: result.to(dtype))
