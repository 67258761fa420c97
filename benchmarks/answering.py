"""Are answers generated faster than with model.generate, are they the same, and what do log-likelihoods cost?

    python benchmarks/answering.py          # short answers of a trained model, long ones of the untrained one
    python benchmarks/answering.py --rows 64 --variants trained

`with_likelihoods`: the same answers and the log-likelihoods of the right ones, as an evaluation does it; the
ratio to `ours`, which gives answers alone, is printed (goal: at most 1.15).
`hf`: model.generate, greedy, rows padded on the left, 8 at a time in the data's order; `hf_sorted`: the same,
rows sorted by length. All sides get the same model, tokens, limit and stop tokens.
`trained`: the model learned each of --tasks from --train-rows rows before, and gives the short answers it
should; limit 16.
`untrained`: the same rows and the base model. `long`: the base model on --long-tasks, whose answers are free
texts; limit 64.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Setup, load_tasks, options, record, set_up, table
from timing import alternate, ready, summary, timing_rows
from transformers import PreTrainedModel

from sapo.answers.greedy import answer, generate
from sapo.artifacts.task import Task
from sapo.prompts.encoder import Encoded
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora

Answers = list[list[int]]
LIMITS = {"trained": 16, "untrained": 16, "long": 64}
GOAL = 1.15  # time with log-likelihoods to that of answers alone


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
    parser = options(__doc__, tasks=["task195", "FOMC"], rows=64, name="answering")
    parser.add_argument(
        "--long-tasks", nargs="+", default=["task589"], help="tasks of `long` (default: %(default)s)"
    )
    parser.add_argument("--variants", nargs="+", default=["trained", "long"], choices=list(LIMITS))
    parser.add_argument("--own", action="store_true", help="leave the sides of model.generate out")
    parser.add_argument("--limit", type=int, help="most tokens of an answer (default: 16 or 64 for `long`)")
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
        names = arguments.long_tasks if variant == "long" else arguments.tasks
        for task in load_tasks(names, arguments.url, max(arguments.rows, arguments.train_rows)):
            model = trained(setup, task, arguments.train_rows) if variant == "trained" else setup.model()
            asked = setup.rows(task, split="test", answers=True)[: arguments.rows]
            rows = [Encoded(row.prompt, []) for row in asked]
            print(f"{variant}, {task.name}: {len(rows)} rows, at most {limit} tokens an answer", flush=True)
            peer = partial(hf, model, rows, stop, pad, limit, arguments.batch_size)
            how = (stop, pad, limit, setup.params.evaluate.batch_tokens, task.name)
            work = {
                "ours": partial(generate, model, rows, *how),
                "with_likelihoods": partial(answer, model, asked, *how),
                "hf": partial(peer, by_length=False),
                "hf_sorted": partial(peer, by_length=True),
            }
            sides = list(work)[: 2 if arguments.own else None]
            seconds, answers = alternate({name: ready(work[name]) for name in sides}, arguments.repeats)
            answers["with_likelihoods"], likelihoods = answers["with_likelihoods"]
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
                "mean_right_answer_tokens": sum(len(row.answer) for row in asked) / len(rows),
                "log_likelihoods": likelihoods,
                "answers_equal_to_ours": same,
                "answers": answers,
            }
            results.append(entry)
            ratio = entry["time_to_first"]["with_likelihoods"]
            print(f"with log-likelihoods {ratio:.3f} times the answers alone (goal {GOAL})", flush=True)
            lines += [
                row | {"same_answers": f"{same[row['side']]}/{len(rows)}"}
                for row in timing_rows(f"{variant} {task.name}", entry)
            ]
    table(lines)
    record(arguments, setup.params, results)


if __name__ == "__main__":
    main()
