"""A training of the tiny model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from sapo.config import Lora, Train
from sapo.prompts.encoder import Encoded
from sapo.training.loop import Trained, train_task
from sapo.training.new_lora import new_lora
from tiny import MODULES

Run = Callable[..., Trained]


@pytest.fixture
def run(new_model: Callable[[], PreTrainedModel]) -> Run:
    """Trains a new LoRA on rows, always from the same start."""

    def work(rows: list[Encoded], lora: Lora, train: Train, checkpoints: Path, **options: Any) -> Trained:
        adapted = new_lora(new_model(), lora, MODULES, seed=5)
        return train_task(adapted, rows, train=train, seed=5, pad=0, checkpoints=checkpoints, **options)

    return work
