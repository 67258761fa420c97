"""The model as it is now: the base model with the updates of all tasks learned so far.

Selection, training and evaluation use this one function.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from sapo.artifacts.base_model import BASE_FOLDER, read_base
from sapo.artifacts.lineage import model_folder
from sapo.config import Params
from sapo.lora.stack import Adapter, load_adapter
from sapo.models.devices import device
from sapo.models.load import load_model
from sapo.runtime.errors import OtherRunError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def current_adapter(learned: Sequence[str]) -> Adapter | None:
    """The adapter after the tasks `learned`, in order; None before the first. ArtifactError for any other."""
    return load_adapter(model_folder(learned[-1]), read_base().fingerprint, learned) if learned else None


def current_model(params: Params, adapter: Adapter | None, dtype: str | None = None) -> "PreTrainedModel":
    """The base model with the adapter's update folded into its weights: the same cost after every task.

    With launch.shard it stays on the processor, for `sapo.models.devices.shard` to divide.
    """
    place = torch.device("cpu") if params.launch.shard else device()
    model = load_model(BASE_FOLDER, dtype or params.model.dtype, place)
    if adapter:
        fold(model, adapter)
    return model


@torch.no_grad()
def fold(model: "PreTrainedModel", adapter: Adapter) -> None:
    """Add scaling * B @ A to the model's weights in memory, in float32, rounded once to their dtype.

    Raises OtherRunError, before any change, where the adapter's modules are not the model's.
    """
    weights = {name: module.weight for name, module in model.named_modules() if name in adapter.a}
    wanted = {
        name for name, _ in model.named_modules() if name.split(".")[-1] in adapter.target_modules
    } or adapter.a.keys()
    if odd := sorted((wanted | adapter.a.keys()) - (adapter.a.keys() & wanted & weights.keys())):
        raise OtherRunError(f"the adapter and the model differ in these modules: {', '.join(odd):.200}")
    for name, found in weights.items():
        shape = [len(adapter.b[name]), adapter.a[name].shape[1]]
        if list(found.shape) != shape:
            raise OtherRunError(
                f"the adapter's update of {name} has shape {shape}, the model's weight {list(found.shape)}"
            )
    for name, a in adapter.a.items():
        weight: Any = model.get_submodule(name).weight
        update = adapter.scaling * adapter.b[name] @ a
        weight.copy_((weight.float() + update.to(weight.device)).to(weight.dtype))
