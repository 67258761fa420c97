"""The LoRA stack: one new LoRA a task, all of them kept in ONE standard PEFT adapter of rank t * r after t tasks.

The blocks lie behind one another in A (rows) and B (columns), so B @ A is the sum over the tasks' updates; alpha grows
with the rank, so the scaling alpha / r never changes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sapo.files import BY_A_STAGE, DataError, read_json, read_object, write_json
from sapo.records import WEIGHTS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sapo.params import Lora

CONFIG, LINEAGE = "adapter_config.json", "lineage.json"
OUTER = "base_model.model."  # what PEFT puts before the name of an adapted module


@dataclass(frozen=True)
class Adapter:
    """A saved adapter: A (rank, in) and B (out, rank) of each module in float32, its scaling, and how it came to be.

    `target_modules`: the last part of the names of all modules that it must adapt.
    """

    a: dict[str, Tensor]
    b: dict[str, Tensor]
    scaling: float
    lineage: dict[str, Any]
    target_modules: Sequence[str] = ()


def load_adapter(folder: str | Path, base_fingerprint: str, tasks: Sequence[str] | None = None) -> Adapter:
    """Read an adapter of this project.

    Raises DataError for a damaged one, one of another base model, and one that has not learned `tasks` in their order.
    """
    folder = Path(folder)
    config = read_object(folder / CONFIG, r=int, lora_alpha=int | float, target_modules=list)
    lineage = read_object(folder / LINEAGE, base=dict, tasks=list)
    try:
        name, fingerprint = lineage["base"]["name"], lineage["base"]["fingerprint"]
        learned = list({entry["task"]: entry["prompt"]["instruction"] for entry in lineage["tasks"]})
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / LINEAGE} is not what the train stage writes ({error!r}): {BY_A_STAGE}") from error
    if fingerprint != base_fingerprint:
        raise DataError(
            f"{folder} was trained on base model {name} ({fingerprint!s:.12}), "
            f"but models/base is another ({base_fingerprint[:12]}): run `dvc repro` for the model you want"
        )
    if not learned or (tasks is not None and learned != list(tasks)):
        raise DataError(f"{folder / LINEAGE} is of another run: it has learned {learned}, expected {tasks}; run `dvc repro`")
    if config["r"] < 1 or not 0 < config["lora_alpha"] < math.inf:
        raise DataError(f"{folder / CONFIG}: r = {config['r']} and lora_alpha = {config['lora_alpha']} must be above 0")
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{folder / WEIGHTS} cannot be read: {error}; train it again or fetch it (`dvc pull`)") from error
    a, b = ({_module(key): t.float() for key, t in tensors.items() if f".{side}." in key} for side in ("lora_A", "lora_B"))
    if a.keys() != b.keys() or len(a) + len(b) != len(tensors):
        odd = sorted({_module(key) for key in tensors} - (a.keys() & b.keys())) or sorted(tensors)
        raise DataError(f"{folder / WEIGHTS} must hold one A and one B of every module: see {', '.join(odd):.200}")
    for name in a:
        if a[name].ndim != 2 or b[name].ndim != 2 or not len(a[name]) == b[name].shape[1] == config["r"]:
            shapes = f"A {list(a[name].shape)}, B {list(b[name].shape)}"
            raise DataError(f"{folder / WEIGHTS}: {name} has {shapes}, {CONFIG} says rank {config['r']}: train it again")
        if not (torch.isfinite(a[name]).all() and torch.isfinite(b[name]).all()):
            raise DataError(f"{folder / WEIGHTS}: {name} holds NaN or infinity: train it again")
    return Adapter(a, b, config["lora_alpha"] / config["r"], lineage, config["target_modules"])


def check_continues(adapter: Adapter, lora: "Lora", target_modules: Sequence[str], folder: Path) -> None:
    """Refuse (DataError) to stack a LoRA of these settings on an adapter of others: one rank and one scaling hold for all."""
    rank = len(next(iter(adapter.a.values()))) / len(adapter.lineage["tasks"])
    if (rank, adapter.scaling) != (lora.r, lora.alpha / lora.r) or sorted(adapter.target_modules) != sorted(target_modules):
        raise DataError(
            f"{folder} has rank {rank:g} a task, scaling {adapter.scaling:g} and modules {sorted(adapter.target_modules)}, which "
            f"lora.r = {lora.r}, lora.alpha = {lora.alpha} and model.target_modules = {sorted(target_modules)} cannot continue: "
            "run `dvc repro` for all tasks"
        )


def _module(key: str) -> str:
    return key.removeprefix(OUTER).split(".lora_")[0]


@torch.no_grad()
def fold(model: "PreTrainedModel", adapter: Adapter) -> None:
    """Add scaling * B @ A to the model's weights in memory, computed in float32 and rounded once to their dtype.

    Raises DataError, before any change, where the adapter's modules are not the model's.
    """
    weights = {name: module.weight for name, module in model.named_modules() if name in adapter.a}
    wanted = {name for name, _ in model.named_modules() if name.split(".")[-1] in adapter.target_modules} or adapter.a.keys()
    if odd := sorted((wanted | adapter.a.keys()) - (adapter.a.keys() & wanted & weights.keys())):
        raise DataError(f"the adapter and the model differ in these modules: {', '.join(odd):.200}; run `dvc repro`")
    for name, found in weights.items():
        shape = [len(adapter.b[name]), adapter.a[name].shape[1]]
        if list(found.shape) != shape:
            raise DataError(f"the adapter's update of {name} has shape {shape}, the model's weight {list(found.shape)}")
    for name, a in adapter.a.items():
        weight: Any = model.get_submodule(name).weight
        update = adapter.scaling * adapter.b[name] @ a
        weight.copy_((weight.float() + update.to(weight.device)).to(weight.dtype))


def stack(previous: Adapter | None, new: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the stacked adapter: `new` is PEFT's state dict of one task's LoRA, `previous` all earlier ones."""
    stacked = {}
    for key, tensor in new.items():
        earlier, dim = (previous.a if previous else {}, 0) if ".lora_A." in key else (previous.b if previous else {}, 1)
        block = tensor.detach().float().cpu()
        stacked[key] = torch.cat([earlier[_module(key)], block], dim=dim) if previous else block
    return stacked


def save_adapter(
    folder: Path, tensors: Mapping[str, Tensor], lora: "Lora", target_modules: list[str], lineage: dict[str, Any], card: str
) -> None:
    """Write a stock PEFT adapter of len(lineage["tasks"]) stacked tasks, its lineage and its model card.

    Raises DataError when a weight is not finite in the dtype it is saved in.
    """
    from peft import LoraConfig

    learned = len(lineage["tasks"])
    saved = {key: tensor.to(getattr(torch, lora.save_dtype)).contiguous() for key, tensor in tensors.items()}
    for key, tensor in saved.items():
        if not torch.isfinite(tensor).all():
            raise DataError(f"{key} is not finite as {lora.save_dtype}: training diverged (lower train.learning_rate)")
    config = LoraConfig(
        r=lora.r * learned,
        lora_alpha=lora.alpha * learned,
        lora_dropout=lora.dropout,
        target_modules=sorted(target_modules),
        task_type="CAUSAL_LM",
        base_model_name_or_path=lineage["base"]["id"],
        inference_mode=True,
    )
    save_file(saved, folder / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))
    stable = read_json(folder / CONFIG)
    stable["target_modules"] = sorted(stable["target_modules"])  # a set: its order would change from run to run
    write_json(folder / CONFIG, stable)
    write_json(folder / LINEAGE, lineage)
    (folder / "README.md").write_text(card, encoding="utf-8")
