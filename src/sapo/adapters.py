"""The LoRA stack: one new LoRA a task, all of them kept in ONE standard PEFT adapter of rank t * r after t tasks.

The blocks lie behind one another in A (rows) and B (columns), so B @ A is the sum over the tasks' updates; alpha grows
with the rank, so the scaling alpha / r never changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sapo.files import DataError, read_json, write_json
from sapo.records import WEIGHTS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sapo.params import Lora

CONFIG, LINEAGE = "adapter_config.json", "lineage.json"
OUTER = "base_model.model."  # what PEFT puts before the name of an adapted module


@dataclass(frozen=True)
class Adapter:
    """A saved adapter: A (rank, in) and B (out, rank) of each module in float32, its scaling, and how it came to be."""

    a: dict[str, Tensor]
    b: dict[str, Tensor]
    scaling: float
    lineage: dict[str, Any]


def load_adapter(folder: str | Path, base_fingerprint: str) -> Adapter:
    """Read an adapter of this project. Raises DataError for a damaged one or one of another base model."""
    folder = Path(folder)
    config, lineage = read_json(folder / CONFIG), read_json(folder / LINEAGE)
    if lineage["base"]["fingerprint"] != base_fingerprint:
        raise DataError(
            f"{folder} was trained on base model {lineage['base']['name']} ({lineage['base']['fingerprint'][:12]}), "
            f"but models/base is another ({base_fingerprint[:12]}): run `dvc repro` for the model you want"
        )
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    a, b = ({_module(key): t.float() for key, t in tensors.items() if f".{side}." in key} for side in ("lora_A", "lora_B"))
    return Adapter(a, b, config["lora_alpha"] / config["r"], lineage)


def _module(key: str) -> str:
    return key.removeprefix(OUTER).split(".lora_")[0]


@torch.no_grad()
def fold(model: "PreTrainedModel", adapter: Adapter) -> None:
    """Add scaling * B @ A to the model's weights in memory, computed in float32 and rounded once to their dtype."""
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
