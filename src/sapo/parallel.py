"""Several processes at one stage (`accelerate launch`): who works on what, and how their results become one."""

import os
from typing import TYPE_CHECKING

from sapo.files import DataError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel


def rank() -> int:
    """This process's number, from 0; side effects are rank 0's alone."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes work on the stage."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    return rank() == 0


def device() -> "torch.device":
    """The accelerator of this process, else the processor. The first call joins the processes."""
    from accelerate import PartialState

    return PartialState().device


def sum_over_ranks(tensor: "Tensor") -> "Tensor":
    """The sum of a tensor over all processes, in place; every process must call it, and gets the same."""
    if world() > 1:
        import torch.distributed

        torch.distributed.all_reduce(tensor)
    return tensor


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world() > 1:
        import torch.distributed

        torch.distributed.barrier()


def leave() -> None:
    """Wait for the others, then part: a process that ends early would be taken for a failure."""
    if world() > 1:
        import torch.distributed

        if torch.distributed.is_initialized():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()


def shard(model: "PreTrainedModel") -> None:
    """Spread the frozen weights over the processes (FSDP2, layer by layer); trainable ones stay whole in each of them.

    The weights are to be on the processor: each layer is moved to the device as it is divided. Every process must then run
    the same number of forward passes, since each pass gathers the weights from all of them. Raises DataError for one process.
    """
    if world() == 1:
        raise DataError("launch.shard needs several processes: see conf/launch/fsdp.yaml")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    place = device()
    trainable = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for parameter in trainable:
        parameter.data = parameter.data.to(place)
    mesh = init_device_mesh(place.type, (world(),))
    kinds = set(model._no_split_modules or [])  # what transformers calls the model's decoder layer
    for module in model.modules():
        if type(module).__name__ in kinds:
            fully_shard(module, mesh=mesh, ignored_params=trainable)
    fully_shard(model, mesh=mesh, ignored_params=trainable)


def is_sharded(model: "torch.nn.Module") -> bool:
    """Whether `shard` has spread the model's weights."""
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(module, FSDPModule) for module in model.modules())
