"""Does a training step cost more the more tasks were learned before?

    python benchmarks/growth.py                 # tasks 1, 5, 10 and 15, with and without the orthogonal term
    python benchmarks/growth.py --memory        # instead of times: peak memory over the model

`ours` adds the earlier tasks' LoRA, here random ones, to the weights (with -S model.dtype=bfloat16 it
keeps them beside the weights, in float32), and trains the new one. `peer` keeps them as the public code
does: active beside the new one, in PEFT one frozen adapter of rank (t - 1) * r; plain
transformers.Trainer, the orthogonal term over it. Both train on the same rows from the same start, so
their losses are the same but for rounding.
"""

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Setup, load_tasks, options, record, set_up, table
from peft import LoraConfig
from timing import alternate, in_child, peak_memory, summary
from training import adapted, dataset, peer, peer_arguments
from transformers import DataCollatorForSeq2Seq, PreTrainedModel, Trainer, TrainingArguments

from sapo.artifacts.lineage import Lineage
from sapo.config import Lora, Train
from sapo.lora.current import apply_update
from sapo.lora.stack import Adapter
from sapo.prompts.encoder import Encoded
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora

Work = Callable[[], list[float]]
WEIGHTS = {"lora_inc": 0.0, "olora": 0.5}  # of the orthogonal term


def earlier_tasks(model: PreTrainedModel, lora: Lora, names: list[str], count: int) -> Adapter:
    """`count` random tasks' LoRA, stacked; small, so that the model stays one that learns."""
    generator = torch.Generator().manual_seed(count)
    a, b = {}, {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in names:
            rank, (out, inner) = count * lora.r, module.weight.shape  # type: ignore[union-attr, misc]
            a[name] = torch.randn(rank, inner, generator=generator) / inner**0.5
            b[name] = torch.randn(out, rank, generator=generator) * 1e-3
    return Adapter(a, b, count * lora.r, lora.alpha / lora.r, Lineage.model_construct(), names)


def ours(setup: Setup, rows: list[Encoded], train: Train, task: int, weight: float) -> Work:
    params, model = setup.params, setup.model()
    earlier = earlier_tasks(model, params.lora, params.model.target_modules, task - 1)
    if task > 1:
        apply_update(model, earlier)
    model = new_lora(model, params.lora, params.model.target_modules, params.seed)

    def work() -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            trained = train_task(
                model,
                rows,
                train=train,
                seed=params.seed,
                pad=setup.pad,
                checkpoints=Path(folder) / "checkpoints",
                earlier_a=earlier.a if task > 1 else None,
                orthogonal_weight=weight if task > 1 else 0.0,
            )
        return [step.loss for step in trained.history]

    return work


class OrthogonalTrainer(Trainer):
    """Adds weight * sum |A_earlier A_new^T| over the modules that have both adapters."""

    orthogonal_weight = 0.0

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, *args, **kwargs)
        if self.orthogonal_weight:
            pairs = [
                module.lora_A for module in model.modules() if "earlier" in getattr(module, "lora_A", {})
            ]
            loss = loss + self.orthogonal_weight * sum(
                (a["earlier"].weight @ a["default"].weight.T).abs().sum() for a in pairs
            )
        return loss


def peft_peer(setup: Setup, rows: list[Encoded], train: Train, task: int, weight: float) -> Work:
    lora, names, model = setup.params.lora, setup.params.model.target_modules, adapted(setup)
    if task > 1:
        rank = (task - 1) * lora.r
        config = LoraConfig(
            r=rank, lora_alpha=(task - 1) * lora.alpha, target_modules=names, task_type="CAUSAL_LM"
        )
        model.add_adapter("earlier", config)
        earlier = earlier_tasks(setup.model(), lora, names, task - 1)
        for name, a in earlier.a.items():
            module = model.get_base_model().get_submodule(name)
            module.lora_A["earlier"].weight.data.copy_(a)
            module.lora_B["earlier"].weight.data.copy_(earlier.b[name])
        model.base_model.set_adapter(["default", "earlier"])
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name and ".default." in name)
    arguments = TrainingArguments(**peer_arguments(setup, train))
    collator = DataCollatorForSeq2Seq(setup.tokenizer, padding=True)
    made = OrthogonalTrainer(
        model=model, args=arguments, train_dataset=dataset(setup, rows), data_collator=collator
    )
    made.orthogonal_weight = weight if task > 1 else 0.0
    return peer(made)


SIDES = {"ours": ours, "peer": peft_peer}


def main() -> None:
    parser = options(__doc__, tasks=["task195"], rows=64, name="growth")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="rows an optimiser step (default: %(default)s)"
    )
    parser.add_argument(
        "--positions", nargs="+", type=int, default=[1, 5, 10, 15], help="which task in a sequence it is"
    )
    parser.add_argument("--methods", nargs="+", default=list(WEIGHTS), choices=list(WEIGHTS))
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--memory", action="store_true", help="peak memory instead of times")
    arguments = parser.parse_args()
    setup = set_up(arguments.overrides)
    train = setup.params.train.model_copy(
        update={"epochs": 1, "batch_size": arguments.batch_size, "checkpoints": 1}
    )
    rows = setup.rows(load_tasks(arguments.tasks[:1], arguments.url, arguments.rows)[0])
    steps = -(-len(rows) // train.batch_size)
    cases = [
        (method, side, position)
        for method in arguments.methods
        for side in arguments.sides
        for position in arguments.positions
    ]
    if arguments.child:
        case = json.loads(arguments.child)
        work = SIDES[case["side"]](setup, rows, train, case["position"], WEIGHTS[case["method"]])
        with peak_memory() as peak:
            work()
        print(json.dumps(peak["mib"]))
        return
    results: list[dict[str, Any]] = []
    if arguments.memory:
        for method, side, position in cases:
            case = {"method": method, "side": side, "position": position}
            results.append(case | {"peak_mib_above_model": in_child(case)})
    else:
        sides = {
            f"{method} {side} {position}": partial(SIDES[side], setup, rows, train, position, WEIGHTS[method])
            for method, side, position in cases
        }
        seconds, losses = alternate(sides, arguments.repeats)
        times = summary(seconds, len(rows))
        for (method, side, position), name in zip(cases, sides, strict=True):
            first = f"{method} {side} {arguments.positions[0]}"
            other = losses.get(f"{method} ours {position}", losses[name])
            results.append(
                {
                    "method": method,
                    "side": side,
                    "position": position,
                    "step_s": times["median_s"][name] / steps,
                    "to_first_position": times["median_s"][name] / times["median_s"][first],
                    "loss_differs_by": max(abs(a - b) for a, b in zip(losses[name], other, strict=True)),
                    "seconds": seconds[name],
                    "step_losses": losses[name],
                }
            )
    table([{key: value for key, value in row.items() if not isinstance(value, list)} for row in results])
    record(arguments, setup.params, results, f"{arguments.name}_memory" if arguments.memory else "")


if __name__ == "__main__":
    main()
