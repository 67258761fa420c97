"""Every candidate's loss under the model as it is now, and the number of the best one."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sapo.artifacts.chosen_prompt import Candidate
from sapo.artifacts.task import Task
from sapo.prompts.encoder import PromptEncoder
from sapo.runtime.progress import progress
from sapo.selection.loss import RowLosses
from sapo.selection.search import search

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sapo.config import Selection


def measure(
    model: "PreTrainedModel",
    encoder: PromptEncoder,
    task: Task,
    texts: Sequence[str],
    settings: "Selection",
    kind: str,
) -> tuple[int, list[Candidate]]:
    """The best candidate's number, and each one's mean loss (nats a token) over the rows it was measured on.

    Every answer token weighs the same, the end of turn included. texts: instructions, the original first. The
    rows are the task's first `settings.rows` training rows; kind: which search, see sapo.selection.search.
    """
    examples = task.train[: settings.rows]
    tokens: list[int] = []  # of each row's answer: the same under every candidate

    def losses_of(text: str) -> Callable[[Sequence[int]], list[float]]:
        rows = encoder.encode(text, task.suffix, task.language, examples, answers=True)
        tokens[:] = [len(row.answer) for row in rows]
        row_losses = RowLosses(model, rows, encoder.end_of_turn, settings.batch_tokens)

        def measured(indices: Sequence[int]) -> list[float]:
            losses = row_losses(indices)
            bar.note(f"loss {math.fsum(losses) / sum(tokens[index] for index in indices):.3f}")
            bar.update(len(indices))
            return losses

        return measured

    with progress(f"{task.name}: {kind} search", len(texts) * len(examples), "row") as bar:
        best, losses = search(kind, [losses_of(text) for text in texts], len(examples), settings.confidence)
    means = [math.fsum(of.values()) / sum(tokens[row] for row in of) for of in losses]
    complete = sorted((n for n, of in enumerate(losses) if len(of) == len(examples)), key=means.__getitem__)
    places = {number: place for place, number in enumerate(complete, start=1)}
    return best, [
        Candidate(
            instruction=text, original=number == 0, loss=means[number], rows=len(of), place=places.get(number)
        )
        for number, (text, of) in enumerate(zip(texts, losses, strict=True))
    ]
