"""What each process of test_launch.py runs: select, train and evaluate of its tasks, one after another."""

import sys
from collections.abc import Callable

import torch.distributed

import evaluate
import select_prompt
import train
from sapo.runtime.processes import leave, process_count


def stage(work: Callable[[str], None], name: str) -> None:
    """A stage ends when all processes have ended: only then its outputs are there."""
    work(name)
    if process_count() > 1:
        torch.distributed.barrier()


stage(evaluate.evaluate, "base")
for task in sys.argv[1:]:
    stage(select_prompt.select, task)
    stage(train.train, task)
    stage(evaluate.evaluate, task)
leave()
