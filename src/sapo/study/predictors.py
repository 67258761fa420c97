"""What may tell beforehand which wording is best: the loss, as SAPO takes it, and its rivals.

Each is measured under the model as it is before the training, and its lowest value is to be the best one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from sapo.artifacts.study import AboutPredictor
from sapo.artifacts.task import load_task
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import prefix_length
from sapo.prompts.sharing import shared_length, tokens_at_a_time
from sapo.selection.loss import RowLosses
from sapo.study.state import State
from sapo.training.dropout import Draws
from sapo.training.loop import backward

CHECKPOINTS = Path(".checkpoints/study-look-ahead")
BACKWARD = 2  # passes of a row that its backward pass counts for


class Bench:
    """The model before the training, the rows that predictors read, and what is measured once for all.

    rows: how many of each task, its first training rows: those that SAPO's selection reads (selection.rows).
    """

    def __init__(self, state: State) -> None:
        self.state, self.rows = state, state.params.selection.rows
        self._gradients: dict[str, Tensor] = {}

    def task_rows(self, text: str) -> list[Encoded]:
        """Rows of the task under this wording."""
        state = self.state
        return state.encoded(state.task, state.prompt(text), state.task.train[: self.rows])

    @cached_property
    def earlier_rows(self) -> list[list[Encoded]]:
        """Rows of each earlier task, under the prompt that it was trained with."""
        asked = self.state.lineage.asked()
        tasks = [load_task(name) for name in asked]
        return [self.state.encoded(task, asked[task.name], task.train[: self.rows]) for task in tasks]

    @cached_property
    def earlier_gradient(self) -> Tensor:
        """The gradient of the mean over earlier tasks of their loss."""
        return torch.stack([self.gradient(rows) for rows in self.earlier_rows]).mean(0).cpu()

    def loss(self, rows: Sequence[Encoded]) -> float:
        """The mean loss of the rows' answers, nats a token."""
        state = self.state
        losses = RowLosses(state.model, rows, state.pad, state.params.selection.batch_tokens)
        return math.fsum(losses(range(len(rows)))) / sum(len(row.answer) for row in rows)

    def task_gradient(self, text: str) -> Tensor:
        """Of the task's loss under this wording; kept, because two predictors look at it."""
        if text not in self._gradients:
            self._gradients[text] = self.gradient(self.task_rows(text)).cpu()
        return self._gradients[text]

    def gradient(self, rows: Sequence[Encoded]) -> Tensor:
        """The gradient of `loss` in the weights of the LoRA that a training begins with, one long vector."""
        state, seed = self.state, self.state.params.seed
        with state.lora(seed, dropout=0.0) as model:
            model.eval()
            draws = Draws(model, state.seed(seed), prefix_length(rows))
            budget = tokens_at_a_time(state.model.config, state.params.train.batch_tokens)
            prefix = shared_length(state.model, rows)
            backward(model, rows, range(len(rows)), draws, prefix, state.pad, budget)
            weights = [weight for weight in model.parameters() if weight.requires_grad]
            parts = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
            return torch.cat([part.flatten().float() for part in parts])


def loss(bench: Bench, text: str) -> float:
    """SAPO's: the task's loss under the wording (nats a token)."""
    return bench.loss(bench.task_rows(text))


def length(bench: Bench, text: str) -> float:
    """The wording's tokens."""
    return float(len(bench.state.encoder.begin(text).answer))


def perplexity(bench: Bench, text: str) -> float:
    """How unlikely the wording itself is at the beginning of a user turn (its perplexity a token)."""
    return math.exp(bench.loss([bench.state.encoder.begin(text)]))


def gradient_norm(bench: Bench, text: str) -> float:
    """The length of the gradient of the loss, at the start of the training."""
    return float(bench.task_gradient(text).norm())


def interference(bench: Bench, text: str) -> float:
    """Minus the cosine of the task's gradient with that of the earlier tasks' losses.

    Below 0 the first step lowers these too; above 0 it raises them.
    """
    task, earlier = bench.task_gradient(text), bench.earlier_gradient
    return -float(torch.nn.functional.cosine_similarity(task, earlier, dim=0))


def look_ahead(bench: Bench, text: str) -> float:
    """The earlier tasks' loss (nats a token, the mean over tasks) after a few steps of training.

    study.steps steps, each at the highest learning rate of the settings, with the rows in the file's order.
    """
    state, settings = bench.state, bench.state.params
    rows = state.rows(text)[: settings.study.steps * settings.train.batch_size]
    constant = {"epochs": 1, "schedule": "constant", "warmup_steps": 0, "checkpoints": 1}
    with state.lora(settings.seed) as model:
        state.train(model, rows, settings.seed, CHECKPOINTS, **constant)
        losses = [bench.loss(rows) for rows in bench.earlier_rows]
    return math.fsum(losses) / len(losses)


@dataclass(frozen=True)
class Predictor:
    """title, unit: for figures and tables.

    passes: what it costs, in passes of a row for each wording; a backward pass counts two. keeps_data:
    whether it reads rows of earlier tasks, which then must be kept.
    """

    title: str
    unit: str
    value: Callable[[Bench, str], float]
    passes: Callable[[Bench], float]
    keeps_data: bool = False

    def about(self, bench: Bench) -> AboutPredictor:
        passes = round(self.passes(bench), 2)
        return AboutPredictor(title=self.title, unit=self.unit, passes=passes, keeps_data=self.keeps_data)


def _earlier(bench: Bench) -> int:
    return sum(map(len, bench.earlier_rows))


def _looking_ahead(bench: Bench) -> float:
    settings = bench.state.params
    rows = min(settings.study.steps * settings.train.batch_size, len(bench.state.task.train))
    return (1 + BACKWARD) * rows + _earlier(bench)


def _interfering(bench: Bench) -> float:
    rows = bench.rows + _earlier(bench) / len(bench.state.texts)  # the earlier tasks' once for all wordings
    return (1 + BACKWARD) * rows


# The first one is SAPO's
PREDICTORS = {
    "loss": Predictor("loss before", "nats a token", loss, lambda bench: bench.rows),
    "length": Predictor("length", "tokens", length, lambda bench: 0),
    "perplexity": Predictor("perplexity", "a token", perplexity, lambda bench: 1),
    "gradient_norm": Predictor(
        "gradient norm",
        "nats a token and unit of weight",
        gradient_norm,
        lambda bench: (1 + BACKWARD) * bench.rows,
    ),
    "interference": Predictor("interference", "minus a cosine", interference, _interfering, keeps_data=True),
    "look_ahead": Predictor("look-ahead", "nats a token", look_ahead, _looking_ahead, keeps_data=True),
}
