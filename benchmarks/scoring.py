"""Is measuring every candidate's loss faster than with other libraries, and is it the same loss?

    python benchmarks/scoring.py               # 3 of the 21 candidates, 24 rows: all costs are linear in both
    python benchmarks/scoring.py --candidates 21 --rows 250 --repeats 1
    python benchmarks/scoring.py --memory      # not times but peak memory over the model, by rows' length

All sides get the same model and the same tokens; making the tokens is not timed. The uncounted run has one
candidate. `trainer`: Trainer.evaluate once a candidate on whole sequences padded on the right, in the data's
order, as the public code does it. `lm_eval`: the harness's own scoring of token ids, all candidates in one
call, sorted by length as it does. `ours_bfloat16` (where asked for): ours with the weights in bfloat16, whose
losses are not those of float32.
"""

import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from common import Setup, load_tasks, options, record, set_up, table
from timing import alternate, in_child, peak_memory, ready, summary, timing_rows
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from sapo.candidates.bank import from_bank
from sapo.prompts.encoder import Encoded
from sapo.selection.loss import RowLosses

Losses = Callable[[], list[float]]  # of every candidate, in nats a token


def ours(setup: Setup, model: PreTrainedModel, candidates: list[list[Encoded]], size: int) -> Losses:
    def loss(rows: list[Encoded]) -> float:
        row_losses = RowLosses(model, rows, setup.pad, setup.params.selection.batch_tokens)
        return sum(row_losses(range(len(rows)))) / sum(len(row.answer) for row in rows)

    return lambda: [loss(rows) for rows in candidates]


def ours_bfloat16(setup: Setup, model: PreTrainedModel, candidates: list[list[Encoded]], size: int) -> Losses:
    return ours(setup, setup.model().to(torch.bfloat16), candidates, size)


class RecordingTrainer(Trainer):
    """Notes every batch's loss and token count.

    evaluate() itself reports a mean over rows of their batch's mean over tokens, in which a token of a batch
    with short answers weighs more. The mean over tokens comes from the same forward calls.
    """

    batches: list[tuple[torch.Tensor, torch.Tensor]]

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        tokens = (inputs["labels"] != -100).sum()
        result = super().compute_loss(model, inputs, *args, **kwargs)
        self.batches.append(((result[0] if isinstance(result, tuple) else result).detach(), tokens))
        return result


def trainer(setup: Setup, model: PreTrainedModel, candidates: list[list[Encoded]], size: int) -> Losses:
    def collate(rows: list[Encoded]) -> dict[str, torch.Tensor]:
        length = max(len(row.prompt) + len(row.answer) for row in rows)
        pads = [length - len(row.prompt) - len(row.answer) for row in rows]
        padded = list(zip(rows, pads, strict=True))
        return {
            "input_ids": torch.tensor(
                [[*row.prompt, *row.answer, *[setup.pad] * pad] for row, pad in padded]
            ),
            "attention_mask": torch.tensor([[1] * (length - pad) + [0] * pad for pad in pads]),
            "labels": torch.tensor(
                [[*[-100] * len(row.prompt), *row.answer, *[-100] * pad] for row, pad in padded]
            ),
        }

    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # nothing is written
        per_device_eval_batch_size=size,
        prediction_loss_only=True,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    peer = RecordingTrainer(model=model, args=arguments, data_collator=collate)
    peer.remove_callback(PrinterCallback)

    def losses() -> list[float]:
        found = []
        for rows in candidates:
            peer.batches = []
            peer.evaluate(rows)  # type: ignore[arg-type]
            total = sum(loss.double().item() * int(tokens) for loss, tokens in peer.batches)
            found.append(total / sum(int(tokens) for _, tokens in peer.batches))
        return found

    return losses


def lm_eval(setup: Setup, model: PreTrainedModel, candidates: list[list[Encoded]], size: int) -> Losses:
    from lm_eval.models.huggingface import HFLM

    # It warns that it cannot choose the device of a model it is given
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    peer = HFLM(pretrained=model, tokenizer=setup.tokenizer, batch_size=size)
    requests = [
        (("", f"{index}"), row.prompt, row.answer)
        for index, row in enumerate(chain.from_iterable(candidates))
    ]

    def losses() -> list[float]:
        with torch.no_grad():
            scores = iter(peer._loglikelihood_tokens(requests, disable_tqdm=True))
        return [
            -sum(next(scores)[0] for _ in rows) / sum(len(row.answer) for row in rows) for rows in candidates
        ]

    return losses


DEFAULT = {"ours": ours, "trainer": trainer, "lm_eval": lm_eval}
SIDES = DEFAULT | {"ours_bfloat16": ours_bfloat16}


def memory(setup: Setup, arguments: Any, case: dict[str, Any]) -> float:
    """MiB above the model while one candidate is scored on rows of about `length` prompt tokens.

    The rows' texts are repeated, then cut.
    """
    [task] = load_tasks([case["task"]], arguments.url, arguments.rows)
    length = case["length"]
    setup.encoder.max_tokens = length
    longer = [replace(row, sentence=" ".join([row.sentence] * length)[: 8 * length]) for row in task.train]
    rows = setup.rows(replace(task, train=longer))
    work = SIDES[case["side"]](setup, setup.model(), [rows], arguments.batch_size)
    with peak_memory() as peak:
        work()
    return peak["mib"]


def main() -> None:
    parser = options(__doc__, tasks=["task195", "task224", "FOMC"], rows=24, name="scoring")
    parser.add_argument(
        "--candidates", type=int, default=3, help="the original and its first paraphrases; at most 21"
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, help="rows at a time of the other sides; default: %(default)s"
    )
    parser.add_argument("--sides", nargs="+", default=list(DEFAULT), choices=list(SIDES))
    parser.add_argument("--memory", action="store_true", help="peak memory of the first task at --lengths")
    parser.add_argument(
        "--lengths", nargs="+", type=int, default=[256, 512, 1024], help="prompt tokens; default: %(default)s"
    )
    arguments = parser.parse_args()
    setup = set_up(arguments.overrides)
    if arguments.child:
        print(json.dumps(memory(setup, arguments, json.loads(arguments.child))))
        return
    results: list[dict[str, Any]] = []
    if arguments.memory:
        for length in arguments.lengths:
            for side in arguments.sides:
                case = {"task": arguments.tasks[0], "side": side, "length": length}
                results.append(case | {"rows": arguments.rows, "peak_mib_above_model": in_child(case)})
        table(results)
        record(arguments, setup.params, results, f"{arguments.name}_memory")
        return
    model, lines = setup.model(), []
    for task in load_tasks(arguments.tasks, arguments.url, arguments.rows):
        texts = [task.instruction, *from_bank(task, 20)][: arguments.candidates]
        candidates = [setup.rows(task, text) for text in texts]
        rows = sum(map(len, candidates))
        sides, first_uses = (
            {name: ready(SIDES[name](setup, model, some, arguments.batch_size)) for name in arguments.sides}
            for some in (candidates, candidates[:1])
        )
        print(f"{task.name}: {len(texts)} candidates x {arguments.rows} rows", flush=True)
        seconds, losses = alternate(sides, arguments.repeats, warm_up=first_uses)
        first = losses[arguments.sides[0]]
        entry = summary(seconds, rows) | {
            "task": task.name,
            "candidates": len(texts),
            "rows": arguments.rows,
            "mean_tokens": sum(len(row.prompt + row.answer) for rows_ in candidates for row in rows_) / rows,
            "losses": losses,
            "largest_relative_difference": {
                name: max(abs(a / b - 1) for a, b in zip(first, other, strict=True))
                for name, other in losses.items()
            },
            "same_choice": {
                name: other.index(min(other)) == first.index(min(first)) for name, other in losses.items()
            },
        }
        results.append(entry)
        differences = entry["largest_relative_difference"]
        lines += [
            row | {"loss_differs_by": differences[row["side"]]} for row in timing_rows(task.name, entry)
        ]
    table(lines)
    record(arguments, setup.params, results)


if __name__ == "__main__":
    main()
