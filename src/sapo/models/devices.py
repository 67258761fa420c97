"""Where a model runs: this process's device, weights spread over several processes, sums over all of them."""

from typing import TYPE_CHECKING, Any

import torch

from sapo.runtime.errors import DataError
from sapo.runtime.processes import process_count

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def device() -> torch.device:
    """This process's accelerator, else the processor. With several processes the first call joins them.

    CUDA_VISIBLE_DEVICES="" keeps a GPU out of it.
    """
    if process_count() == 1:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    from accelerate import PartialState

    place: torch.device = PartialState().device
    return place


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, in place; every process must call it, and gets the same."""
    if process_count() > 1:
        import torch.distributed

        torch.distributed.all_reduce(tensor)
    return tensor


def shard(model: "PreTrainedModel | PeftModel") -> None:
    """Spread the frozen weights over the processes (FSDP2, by layer); trainable ones stay whole in each.

    The weights are to be on the processor: each layer is moved to the device as it is divided. Every process
    must then run the same number of forward passes, since each pass gathers the weights from all of them.
    Raises DataError for one process.
    """
    if process_count() == 1:
        raise DataError("launch.shard needs several processes: see conf/launch/fsdp.yaml")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    place = device()
    trainable = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for parameter in trainable:
        parameter.data = parameter.data.to(place)
    mesh = init_device_mesh(place.type, (process_count(),))
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, ignored_params=trainable)
    fully_shard(model, mesh=mesh, ignored_params=trainable)


def decoder_layers(model: "PreTrainedModel | PeftModel") -> list[torch.nn.Module]:
    """The model's layers: the module list as long as its configuration says. Raises DataError without one."""
    config: Any = model.config
    count = config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return list(module)
    raise DataError(
        f"launch.shard and train.gradient_checkpointing cannot be used with {type(model).__name__}: "
        f"it has no list of {count} layers"
    )


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether `shard` has spread the model's weights."""
    if process_count() == 1:
        return False
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(module, FSDPModule) for module in model.modules())
