"""Several processes in one stage (`accelerate launch`): which one this is, and waiting for each other.

What the launcher tells a process stands in its environment. Other programs set the same variables (a batch
system, a launcher around DVC), so what they say is checked against the launch setting.
"""

import os

from sapo.runtime.errors import DataError

# What a launcher sets beside WORLD_SIZE, and processes cannot find each other without
NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def process_index() -> int:
    """This process's number, from 0; side effects are those of process 0 alone."""
    return _number("RANK", 0)


def process_count() -> int:
    """How many processes work on the stage."""
    return _number("WORLD_SIZE", 1)


def _number(name: str, least: int) -> int:
    """The number in the environment variable; `least` where it is not set or empty."""
    value = os.environ.get(name, "").strip() or str(least)
    if not (value.isascii() and value.isdigit() and int(value) >= least):
        raise DataError(
            f"{name}={value:.40} in the environment is not a number of at least {least}: unset it"
        )
    return int(value)


def check_launch(name: str, command: str, launched: bool) -> None:
    """Compare the environment with the launch setting of this name, which starts stages with `command`.

    launched: whether the command has started this process. Raises DataError when the environment speaks of
    several processes and the command starts one, or when the processes cannot find each other: a stage would
    wait for others that never come.
    """
    count, index = process_count(), process_index()
    if index >= count:
        raise DataError(f"RANK={index} in the environment, but WORLD_SIZE is {count}: unset both")
    if count == 1:
        return
    if _starts_one(command):
        raise DataError(
            f"WORLD_SIZE={count} in the environment, but launch={name} starts one process: "
            "unset it, or use launch=ddp for several"
        )
    lacking = [variable for variable in NEEDED if not os.environ.get(variable)]
    if launched and lacking:
        raise DataError(
            f"WORLD_SIZE={count} in the environment without {', '.join(lacking)}: "
            f"unset it, or start the stage by launch.command ({command.split()[0]} ...)"
        )


def _starts_one(command: str) -> bool:
    """Whether the command is Python alone, and no launcher, neither a program nor a module of Python."""
    program, *options = command.split() or ["python"]
    return os.path.basename(program).startswith("python") and "-m" not in options


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
