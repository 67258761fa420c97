"""The loss of a prompt: how well the model, as it is now, predicts the answers of a task's rows under it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from sapo.models.devices import is_sharded, sum_over_processes
from sapo.prompts.batches import my_batches
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import answer_logits, answer_losses, make_batch, run_prefix
from sapo.prompts.sharing import shared_length, tokens_at_a_time
from sapo.runtime.errors import DataError
from sapo.runtime.processes import process_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class RowLosses:
    """The losses of a task's rows under one prompt, measured when asked for; the shared prefix runs once.

    `batch_tokens` bounds the padded tokens that run at a time.
    """

    def __init__(
        self, model: "PreTrainedModel", rows: Sequence[Encoded], pad: int, batch_tokens: int
    ) -> None:
        if not rows:
            raise DataError("a prompt's loss needs at least one row")
        self.model, self.rows, self.pad = model, rows, pad
        self.batch_tokens = tokens_at_a_time(model.config, batch_tokens)
        self.prefix = shared_length(model, rows)
        self.lockstep = is_sharded(model)
        with torch.no_grad():
            self.cache = run_prefix(model, rows[0].prompt[: self.prefix])

    @torch.no_grad()
    def __call__(self, indices: Sequence[int]) -> list[float]:
        """The negative log likelihood (nats) of each row's answer, end of turn included, summed over tokens.

        Exact: the same to rounding for any batch_tokens, order and number of processes. Raises DataError for
        one that is not finite.
        """
        measured: list[tuple[list[int], torch.Tensor]] = []
        for batch, counts in my_batches(self.rows, indices, self.prefix, 0, self.batch_tokens, self.lockstep):
            tensors = make_batch(
                [self.rows[index] for index in batch], self.prefix, self.pad, self.model.device
            )
            found = answer_losses(answer_logits(self.model, tensors, self.cache), tensors.labels)
            if counts:
                measured.append((batch, found))
        # On the processor: not every accelerator has float64
        losses = torch.zeros(len(self.rows), dtype=torch.float64)
        for batch, found in measured:  # read when all is under way: each reading waits for the device
            losses[batch] = found.cpu().double()
        if process_count() > 1:
            losses = sum_over_processes(losses.to(self.model.device)).cpu()
        every = losses.tolist()
        asked = [every[index] for index in indices]
        if not torch.isfinite(losses).all():
            raise DataError(
                f"a prompt's loss is {sum(asked)}: the model's weights or dtype cannot be used for scoring"
            )
        return asked
