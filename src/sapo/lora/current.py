"""The model as it is now: the base model with the updates of all tasks learned so far.

Selection, training and evaluation use this one function.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sapo.artifacts.base_model import BASE_FOLDER, read_base
from sapo.artifacts.lineage import model_folder
from sapo.config import Params
from sapo.lora.stack import Adapter, load_adapter
from sapo.lora.targets import adapted_modules
from sapo.lora.updated import add_update
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
    """Add scaling * B @ A to the model's weights in memory, as `add_update` does.

    Raises OtherRunError, before any change, where the adapter's modules are not the model's.
    """
    _check_fits(model, adapter)
    for name, a in adapter.a.items():
        add_update(model, name, a, adapter.scaling * adapter.b[name])


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
