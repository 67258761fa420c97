"""How much the shared prefix saves: scoring and training throughput with it, and of plain padded batches, in one run.

    python bench/prefix.py [batch size] [rounds]

Needs models/base and data/tasks of the default sequence (`dvc repro prepare base_model`).
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

import torch

from sapo.models import load_model, load_tokenizer
from sapo.params import load_params
from sapo.prefix import answer_logits, answer_loss, make_batch, prefix_length, run_prefix
from sapo.prompts import Encoded, PromptEncoder
from sapo.tasks import load_task
from sapo.training import new_lora


def main(size: int = 8, rounds: int = 3) -> None:
    params = load_params()
    task = load_task(f"data/tasks/{params.sequence.order[0]}")
    encoder = PromptEncoder(load_tokenizer("models/base"), params.prompt.max_tokens, params.model.template_options)
    rows = encoder.encode(task.instruction, task.suffix, task.language, task.train[:size], answers=True)
    model = new_lora(load_model("models/base", params.model.dtype), params.lora, params.model.target_modules, seed=0)
    prefix = prefix_length(rows)
    mean = sum(len(row.prompt + row.answer) for row in rows) / size
    print(f"{size} rows of {task.name}, {prefix} shared of {mean:.0f} tokens on average")

    def shared(rows: list[Encoded]) -> torch.Tensor:
        batch = make_batch(rows, prefix, encoder.end_of_turn, model.device)
        return answer_loss(answer_logits(model, batch, run_prefix(model, batch.prefix_ids)), batch.labels)

    def plain(rows: list[Encoded]) -> torch.Tensor:
        length = max(len(row.prompt) + len(row.answer) for row in rows)
        pads = [length - len(row.prompt) - len(row.answer) for row in rows]
        ids = [row.prompt + row.answer + [encoder.end_of_turn] * pad for row, pad in zip(rows, pads, strict=True)]
        labels = [[-100] * len(row.prompt) + row.answer + [-100] * pad for row, pad in zip(rows, pads, strict=True)]
        mask = [[1] * (length - pad) + [0] * pad for pad in pads]
        to = {"device": model.device}
        output = model(input_ids=torch.tensor(ids, **to), attention_mask=torch.tensor(mask, **to))
        target = torch.tensor(labels, **to)[:, 1:]
        return answer_loss(output.logits[:, :-1].float(), target)

    with torch.no_grad():
        difference = abs(shared(rows).item() / plain(rows).item() - 1)
    print(f"relative difference of the two losses: {difference:.1e}")
    for name, gradients in (("scoring", False), ("training", True)):
        seconds = {way.__name__: timed(way, rows, gradients, rounds) for way in (plain, shared)}
        rate = {way: size / value for way, value in seconds.items()}
        print(
            f"{name}: plain {rate['plain']:.2f}, shared {rate['shared']:.2f} rows/s, ratio {rate['shared'] / rate['plain']:.2f}"
        )


def timed(way: Callable[[list[Encoded]], torch.Tensor], rows: list[Encoded], gradients: bool, rounds: int) -> float:
    """The median seconds of one pass over the rows, after one that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        with torch.set_grad_enabled(gradients):
            loss = way(rows)
            if gradients:
                loss.backward()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
