"""Dropout that does not depend on how a training is cut into pieces.

PEFT draws what it drops for each pass of the model, so the numbers would change with train.batch_tokens,
gradient checkpointing, shared first tokens and the number of processes. Here a draw belongs to a module, a
step and a row.
"""

from collections.abc import Sequence
from hashlib import sha256
from itertools import chain

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sapo.prompts.encoder import Encoded
from sapo.runtime.errors import DataError

SHARED = -1  # in place of a row's number: the first tokens of all rows, which have one draw a step
Span = tuple[int, int]  # whose tokens, and how many


class Draws:
    """What the LoRAs of a training drop: the same for equal seeds, however its rows run.

    common: how many first tokens all rows share. The modules of `model` are changed in place.
    """

    def __init__(self, model: PeftModel, seed: int, common: int) -> None:
        self.seed, self.common, self.step = seed, common, 0
        self.rows: list[list[Span]] = []  # of the batch that runs next
        for name, module in model.named_modules():
            found = getattr(module, "lora_dropout", {})
            if "default" in found and isinstance(found["default"], torch.nn.Dropout):
                found["default"] = RowDropout(found["default"].p, name, self)

    def run_shared(self) -> None:
        """The first tokens of all rows run next, alone."""
        self.rows = [[(SHARED, self.common)]]

    def run_batch(self, rows: Sequence[Encoded], numbers: Sequence[int], prefix: int) -> None:
        """These rows of the task run next, without their first `prefix` tokens: 0, or all that are common."""
        start = [] if prefix else [(SHARED, self.common)]
        lengths = [len(row.prompt) + len(row.answer) - 1 - self.common for row in rows]
        self.rows = [[*start, span] for span in zip(numbers, lengths, strict=True)]

    def stop(self) -> None:
        """From now on nothing is dropped: the training is over."""
        self.rows = []

    def dropped(self, name: str, rate: float, x: Tensor) -> Tensor:
        """What a module drops of its input x, (B, L, in) or (B * L, in), rows padded on the left: bool."""
        drawn = {span: self._draw(name, rate, span, x) for span in set(chain(*self.rows))}
        rows = [torch.cat([drawn[span] for span in row]) for row in self.rows]
        found = pad_sequence(rows, batch_first=True, padding_side="left")
        # The output layer sees a row's last positions alone
        found = found.flatten(0, 1) if x.dim() == 2 else found[:, -x.shape[1] :]
        if found.shape != x.shape:
            raise DataError(
                f"lora.dropout = {rate:g} cannot be used with {name.rpartition('.')[2]} of "
                "model.target_modules: it does not see all tokens of a row in their order; set lora.dropout=0"
            )
        return found

    def _draw(self, name: str, rate: float, span: Span, x: Tensor) -> Tensor:
        row, tokens = span
        key = sha256(f"{self.seed} {self.step} {row} {name}".encode()).digest()
        generator = torch.Generator(x.device).manual_seed(int.from_bytes(key[:8], "big", signed=True))
        place = torch.empty(tokens, x.shape[-1], dtype=torch.bool, device=x.device)
        return place.bernoulli_(rate, generator=generator)


class RowDropout(torch.nn.Module):
    """In place of one LoRA's torch.nn.Dropout."""

    def __init__(self, rate: float, name: str, draws: Draws) -> None:
        super().__init__()
        self.rate, self.name, self.draws = rate, name, draws

    def forward(self, x: Tensor) -> Tensor:
        if not self.draws.rows:
            return x
        return x.masked_fill(self.draws.dropped(self.name, self.rate, x), 0.0) / (1 - self.rate)
