"""What each process of test_launch.py runs: select, train and evaluate of the tasks that it is given, one after another."""

import sys
from collections.abc import Callable

import torch

import evaluate
import select_prompt
import train
from sapo import parallel


def stage(work: Callable[[str], None], name: str) -> None:
    """A stage ends when all processes have ended: only then its outputs are there."""
    work(name)
    if parallel.world() > 1:
        torch.distributed.barrier()


stage(evaluate.evaluate, "base")
for task in sys.argv[1:]:
    stage(select_prompt.select, task)
    stage(train.train, task)
    stage(evaluate.evaluate, task)
parallel.leave()
