"""The loss of a prompt: how well the model, as it is now, predicts the answers of a task's rows under it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sapo.files import DataError
from sapo.parallel import is_sharded, sum_over_ranks, world
from sapo.pieces import my_pieces
from sapo.prefix import answer_logits, answer_losses, make_batch, prefix_length, run_prefix
from sapo.prompts import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RowLosses:
    """The losses of a task's rows under one prompt, measured when they are asked for; the shared prefix runs once.

    `batch_tokens` bounds the padded tokens that run at a time.
    """

    def __init__(self, model: "PreTrainedModel", rows: Sequence[Encoded], pad: int, batch_tokens: int) -> None:
        if not rows:
            raise DataError("a prompt's loss needs at least one row")
        self.model, self.rows, self.pad, self.batch_tokens = model, rows, pad, batch_tokens
        self.prefix = prefix_length(rows)
        self.lockstep = is_sharded(model)
        with torch.no_grad():
            self.cache = run_prefix(model, rows[0].prompt[: self.prefix])

    @torch.no_grad()
    def __call__(self, indices: Sequence[int]) -> list[float]:
        """The negative log likelihood (nats) of each of these rows' answers, end of turn included, summed over its tokens.

        Exact: the same to rounding for any batch_tokens, order and number of processes. Raises DataError for one that is
        not finite.
        """
        measured: list[tuple[list[int], torch.Tensor]] = []
        for piece, counts in my_pieces(self.rows, indices, self.prefix, 0, self.batch_tokens, self.lockstep):
            batch = make_batch([self.rows[index] for index in piece], self.prefix, self.pad, self.model.device)
            found = answer_losses(answer_logits(self.model, batch, self.cache), batch.labels)
            if counts:
                measured.append((piece, found))
        losses = torch.zeros(len(self.rows), dtype=torch.float64)  # on the processor: not every accelerator has float64
        for piece, found in measured:  # read when all is under way: each reading waits for the device
            losses[piece] = found.cpu().double()
        if world() > 1:
            losses = sum_over_ranks(losses.to(self.model.device)).cpu()
        every = losses.tolist()
        asked = [every[index] for index in indices]
        if not torch.isfinite(losses).all():
            raise DataError(f"a prompt's loss is {sum(asked)}: the model's weights or dtype cannot be used for scoring")
        return asked


def prompt_loss(model: "PreTrainedModel", rows: Sequence[Encoded], pad: int, batch_tokens: int) -> float:
    """The mean negative log likelihood (nats a token) over all answer tokens, end of turn included, of all rows.

    Every token weighs the same. Raises DataError for no rows, no answers or a result that is not finite.
    """
    tokens = sum(len(row.answer) for row in rows)
    if rows and not tokens:
        raise DataError("a prompt's loss needs at least one answer token")
    return sum(RowLosses(model, rows, pad, batch_tokens)(range(len(rows)))) / tokens
