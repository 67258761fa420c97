"""Are answers generated faster than with model.generate, and are they the same answers?

    python benchmarks/answering.py          # short answers of a trained model, long ones of the untrained one
    python benchmarks/answering.py --rows 64 --variants trained

`hf`: model.generate, greedy, rows padded on the left, 8 at a time in the data's order; `hf_sorted`: the same,
rows sorted by length. All sides get the same model, tokens, limit and stop tokens.
`trained`: the model learned each of --tasks from --train-rows rows before, and gives the short answers it
should; limit 16. `long`: the base model on --long-tasks, whose answers are free texts; limit 64.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Setup, load_tasks, options, record, set_up, table
from timing import alternate, ready, summary, timing_rows
from transformers import PreTrainedModel

from sapo.answers.greedy import generate
from sapo.artifacts.task import Task
from sapo.prompts.encoder import Encoded
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora

Answers = list[list[int]]
LIMITS = {"trained": 16, "long": 64}


def hf(
    model: PreTrainedModel,
    rows: list[Encoded],
    stop: set[int],
    pad: int,
    limit: int,
    size: int,
    by_length: bool,
) -> Answers:
    """model.generate's answers, without stop tokens, in the rows' order."""
    order = (
        sorted(range(len(rows)), key=lambda index: len(rows[index].prompt))
        if by_length
        else list(range(len(rows)))
    )
    answers: Answers = [[] for _ in rows]
    for start in range(0, len(rows), size):
        batch = order[start : start + size]
        longest = max(len(rows[index].prompt) for index in batch)
        pads = [longest - len(rows[index].prompt) for index in batch]
        ids = [[pad] * count + rows[index].prompt for index, count in zip(batch, pads, strict=True)]
        mask = [[0] * count + [1] * (longest - count) for count in pads]
        output: Any = model.generate(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            do_sample=False,
            max_new_tokens=limit,
            eos_token_id=sorted(stop),
            pad_token_id=pad,
        )
        for index, tokens in zip(batch, output[:, longest:].tolist(), strict=True):
            end = next((place for place, token in enumerate(tokens) if token in stop), len(tokens))
            answers[index] = tokens[:end]
    return answers


def trained(setup: Setup, task: Task, count: int) -> PreTrainedModel:
    """The base model after one task, its LoRA merged into the weights."""
    model = new_lora(setup.model(), setup.params.lora, setup.params.model.target_modules, setup.params.seed)
    train = setup.params.train.model_copy(update={"checkpoints": 1})
    with tempfile.TemporaryDirectory() as folder:
        train_task(
            model,
            setup.rows(task)[:count],
            train=train,
            seed=setup.params.seed,
            pad=setup.pad,
            checkpoints=Path(folder) / "checkpoints",
        )
    merged: Any = model.merge_and_unload()
    return merged.eval()


def main() -> None:
    parser = options(__doc__, tasks=["task195", "FOMC"], rows=32, name="answering")
    parser.add_argument(
        "--long-tasks", nargs="+", default=["task589"], help="tasks of `long` (default: %(default)s)"
    )
    parser.add_argument("--variants", nargs="+", default=list(LIMITS), choices=list(LIMITS))
    parser.add_argument(
        "--limit", type=int, help="most tokens of an answer (default: 16 for `trained`, 64 for `long`)"
    )
    parser.add_argument("--train-rows", type=int, default=64, help="default: %(default)s")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="rows at a time of the other sides (default: %(default)s)"
    )
    arguments = parser.parse_args()
    setup = set_up(arguments.overrides)
    pad, stop = setup.pad, {setup.pad, setup.tokenizer.eos_token_id}
    results: list[dict[str, Any]] = []
    lines = []
    for variant in arguments.variants:
        limit = arguments.limit or LIMITS[variant]
        names = arguments.tasks if variant == "trained" else arguments.long_tasks
        for task in load_tasks(names, arguments.url, max(arguments.rows, arguments.train_rows)):
            model = trained(setup, task, arguments.train_rows) if variant == "trained" else setup.model()
            rows = setup.rows(task, split="test")[: arguments.rows]
            print(f"{variant}, {task.name}: {len(rows)} rows, at most {limit} tokens an answer", flush=True)
            peer = partial(hf, model, rows, stop, pad, limit, arguments.batch_size)
            work = {
                "ours": partial(
                    generate, model, rows, stop, pad, limit, setup.params.evaluate.batch_tokens, task.name
                ),
                "hf": partial(peer, by_length=False),
                "hf_sorted": partial(peer, by_length=True),
            }
            seconds, answers = alternate({name: ready(one) for name, one in work.items()}, arguments.repeats)
            same = {
                name: sum(a == b for a, b in zip(answers["ours"], other, strict=True))
                for name, other in answers.items()
            }
            entry = summary(seconds, len(rows)) | {
                "variant": variant,
                "task": task.name,
                "rows": len(rows),
                "limit": limit,
                "mean_prompt_tokens": sum(len(row.prompt) for row in rows) / len(rows),
                "mean_answer_tokens": sum(map(len, answers["ours"])) / len(rows),
                "answers_equal_to_ours": same,
                "answers": answers,
            }
            results.append(entry)
            lines += [
                row | {"same_answers": f"{same[row['side']]}/{len(rows)}"}
                for row in timing_rows(f"{variant} {task.name}", entry)
            ]
    table(lines)
    record(arguments, setup.params, results)


if __name__ == "__main__":
    main()
