"""Is training a task faster than with TRL or a plain transformers.Trainer, and is it the same training?

    python benchmarks/training.py                   # one epoch of 48 rows of each task, 8 rows a step
    python benchmarks/training.py --tasks task224 --rows 96 --sides ours trl
    python benchmarks/training.py --memory          # instead of times: peak memory over the model

All sides get the same tokens, PEFT LoRA start, row order, batch size, AdamW, cosine schedule, clipping and
dtype, no packing, loss on answer tokens alone. Timed: ours the whole of `train_task`, its checkpoint
included; of the others `train()` alone. `trl`: SFTTrainer. `trainer`: transformers.Trainer on rows padded on
the right.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from common import Setup, load_tasks, options, record, set_up, table
from timing import alternate, in_child, peak_memory, summary, timing_rows
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from sapo.config import Train
from sapo.prompts.encoder import Encoded
from sapo.training.loop import step_rows, train_task
from sapo.training.new_lora import new_lora

Work = Callable[[], list[float]]  # trains, and returns every step's loss


def adapted(setup: Setup) -> Any:
    """A fresh model with a fresh LoRA: the same numbers at every call."""
    return new_lora(setup.model(), setup.params.lora, setup.params.model.target_modules, setup.params.seed)


def ours(setup: Setup, rows: list[Encoded], train: Train) -> Work:
    model = adapted(setup)

    def work() -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Path(folder) / "checkpoints"
            trained = train_task(
                model, rows, train=train, seed=setup.params.seed, pad=setup.pad, checkpoints=checkpoints
            )
        return [step.loss for step in trained.history]

    return work


def trl(setup: Setup, rows: list[Encoded], train: Train, pass_rows: int | None = None) -> Work:
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    # SFTConfig's own defaults for these are bfloat16, checkpointing and a cut at 1024 tokens.
    given = peer_arguments(setup, train, pass_rows)
    arguments = SFTConfig(**given, max_length=None, packing=False, bf16=False)
    return peer(
        SFTTrainer(
            model=adapted(setup),
            args=arguments,
            train_dataset=Dataset.from_list(dataset(setup, rows)),
            processing_class=setup.tokenizer,
        )
    )


def trainer(setup: Setup, rows: list[Encoded], train: Train, pass_rows: int | None = None) -> Work:
    return peer(
        Trainer(
            model=adapted(setup),
            args=TrainingArguments(**peer_arguments(setup, train, pass_rows)),
            train_dataset=dataset(setup, rows),  # type: ignore[arg-type]
            data_collator=DataCollatorForSeq2Seq(setup.tokenizer, padding=True),
        )
    )


def peer_arguments(setup: Setup, train: Train, pass_rows: int | None = None) -> dict[str, Any]:
    """Our settings by Trainer's names. The rows come in our order, so Trainer must not shuffle them.

    pass_rows: how many go through the model at a time, where not all of a step.
    """
    size = min(pass_rows or train.batch_size, train.batch_size)
    known = {field.name for field in fields(TrainingArguments)}
    # The older name of transformers
    checkpointing = (
        "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    )
    return {
        "output_dir": tempfile.gettempdir(),  # nothing is written
        "num_train_epochs": 1,
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": -(-train.batch_size // size),
        "train_sampling_strategy": "sequential",
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": train.warmup_ratio,
        "max_grad_norm": train.max_grad_norm,
        "weight_decay": 0.0,
        checkpointing: train.gradient_checkpointing,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "seed": setup.params.seed,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def dataset(setup: Setup, rows: Sequence[Encoded]) -> list[dict[str, list[int]]]:
    """The rows in the order of our first epoch, prompts without loss."""
    order = chain.from_iterable(step_rows(len(rows), 1, len(rows), setup.params.seed))
    return [
        {
            "input_ids": rows[index].prompt + rows[index].answer,
            "attention_mask": [1] * len(rows[index].prompt + rows[index].answer),
            "labels": [-100] * len(rows[index].prompt) + rows[index].answer,
        }
        for index in order
    ]


def peer(made: Trainer) -> Work:
    made.remove_callback(PrinterCallback)

    def work() -> list[float]:
        made.train()
        return [entry["loss"] for entry in made.state.log_history if "loss" in entry]

    return work


SIDES = {"ours": ours, "trl": trl, "trainer": trainer}


def main() -> None:
    parser = options(__doc__, tasks=["task195", "task273", "task224"], rows=48, name="training")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="rows an optimiser step (default: %(default)s)"
    )
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--memory", action="store_true", help="peak memory instead of times")
    arguments = parser.parse_args()
    setup = set_up(arguments.overrides)
    train = setup.params.train.model_copy(
        update={"epochs": 1, "batch_size": arguments.batch_size, "checkpoints": 1}
    )
    if arguments.child:
        case = json.loads(arguments.child)
        [task] = load_tasks([case["task"]], arguments.url, arguments.rows)
        work = SIDES[case["side"]](setup, setup.rows(task), train)
        with peak_memory() as peak:
            work()
        print(json.dumps(peak["mib"]))
        return
    results: list[dict[str, Any]] = []
    if arguments.memory:
        for name in arguments.tasks:
            for side in arguments.sides:
                case = {"task": name, "side": side}
                results.append(case | {"rows": arguments.rows, "peak_mib_above_model": in_child(case)})
        table(results)
        record(arguments, setup.params, results, f"{arguments.name}_memory")
        return
    lines = []
    for task in load_tasks(arguments.tasks, arguments.url, arguments.rows):
        rows = setup.rows(task)
        print(f"{task.name}: {len(rows)} rows", flush=True)
        sides = {name: partial(SIDES[name], setup, rows, train) for name in arguments.sides}
        seconds, losses = alternate(sides, arguments.repeats)
        first = losses[arguments.sides[0]]
        apart = {
            name: max(abs(a - b) for a, b in zip(first, other, strict=True)) for name, other in losses.items()
        }
        entry = summary(seconds, len(rows)) | {
            "task": task.name,
            "rows": len(rows),
            "mean_tokens": sum(len(row.prompt + row.answer) for row in rows) / len(rows),
            "step_losses": losses,
            "largest_difference_of_step_losses": apart,
        }
        results.append(entry)
        lines += [row | {"loss_differs_by": apart[row["side"]]} for row in timing_rows(task.name, entry)]
    table(lines)
    record(arguments, setup.params, results)


if __name__ == "__main__":
    main()
