"""Several processes in one stage (`accelerate launch`): which one this is, and waiting for each other."""

import os


def process_index() -> int:
    """This process's number, from 0; side effects are those of process 0 alone."""
    return int(os.environ.get("RANK", "0"))


def process_count() -> int:
    """How many processes work on the stage."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return process_index() == 0


def leave() -> None:
    """Wait for the others, then part: a process that ends early would be taken for a failure."""
    if process_count() > 1:
        import torch.distributed

        if torch.distributed.is_initialized():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
