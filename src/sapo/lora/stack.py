"""The LoRA stack: one new LoRA a task, all kept in ONE standard PEFT adapter of rank t * r after t tasks.

The blocks lie behind one another in A (rows) and B (columns), so B @ A is the sum over the tasks' updates;
alpha grows with the rank, so the scaling alpha / r never changes. With method.adapter `joint` or `single`
the stack is of one LoRA.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sapo.artifacts.lineage import WEIGHTS, Lineage, read_lineage
from sapo.artifacts.schema import as_artifact, validated
from sapo.config import Lora
from sapo.runtime.errors import ArtifactError, DataError, OtherRunError
from sapo.runtime.files import read_json
from sapo.runtime.outputs import write_json
from sapo.settings.method import AdapterKind

CONFIG = "adapter_config.json"  # PEFT's name
OUTER = "base_model.model."  # what PEFT puts before the name of an adapted module


class PeftConfig(BaseModel):
    """What is read of PEFT's adapter_config.json."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    r: int
    lora_alpha: float
    target_modules: list[str]


@dataclass(frozen=True)
class Adapter:
    """A saved adapter: A (rank, in) and B (out, rank) of each module in float32, its scaling and its lineage.

    `target_modules`: PEFT's names of all modules that it must adapt.
    """

    a: dict[str, Tensor]
    b: dict[str, Tensor]
    rank: int
    scaling: float
    lineage: Lineage
    target_modules: Sequence[str]


def load_adapter(folder: Path, base_fingerprint: str, tasks: Sequence[str] | None = None) -> Adapter:
    """Read an adapter of this project.

    Raises ArtifactError for a damaged one, one of another base model, and one that has not learned `tasks` in
    their order.
    """
    lineage = read_lineage(folder, tasks)
    if lineage.base.fingerprint != base_fingerprint:
        raise OtherRunError(
            f"{folder} was trained on base model {lineage.base.name} ({lineage.base.fingerprint:.12}), "
            f"but models/base is another ({base_fingerprint:.12})"
        )
    config = _peft_config(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    a, b = (
        {_module(key): t.float() for key, t in tensors.items() if f".{side}." in key}
        for side in ("lora_A", "lora_B")
    )
    _check_tensors(folder / WEIGHTS, a, b, tensors, config.r)
    return Adapter(a, b, config.r, config.lora_alpha / config.r, lineage, config.target_modules)


def _peft_config(path: Path) -> PeftConfig:
    with as_artifact():
        config = validated(PeftConfig, read_json(path), str(path))
    if config.r < 1 or not 0 < config.lora_alpha < math.inf:
        raise ArtifactError(f"{path}: r = {config.r} and lora_alpha = {config.lora_alpha} must be above 0")
    return config


def _check_tensors(
    path: Path, a: Mapping[str, Tensor], b: Mapping[str, Tensor], tensors: Mapping[str, Tensor], rank: int
) -> None:
    """Refuse (ArtifactError) all but one finite A and B of `rank` per module; tensors: all of the file."""
    others = [key for key in tensors if not (".lora_A." in key or ".lora_B." in key)]
    if odd := [*sorted(a.keys() ^ b.keys()), *others]:
        raise ArtifactError(f"{path} must hold one A and one B of every module: see {', '.join(odd):.200}")
    if not tensors:
        raise ArtifactError(f"{path} holds no tensors")
    for name in a:
        if a[name].ndim != 2 or b[name].ndim != 2 or not len(a[name]) == b[name].shape[1] == rank:
            shapes = f"A {list(a[name].shape)}, B {list(b[name].shape)}"
            raise ArtifactError(f"{path}: {name} has {shapes}, {CONFIG} says rank {rank}")
        if not (torch.isfinite(a[name]).all() and torch.isfinite(b[name]).all()):
            raise ArtifactError(f"{path}: {name} holds NaN or infinity")


def check_continues(
    adapter: Adapter, kind: AdapterKind, lora: Lora, target_modules: Sequence[str], folder: Path
) -> None:
    """Refuse (OtherRunError) to go on from an adapter of another kind or of other settings.

    One kind, one rank of a LoRA and one scaling hold for all tasks.
    """
    made = adapter.lineage.method.adapter
    if made != kind:
        raise OtherRunError(f"{folder} was made with method.adapter = {made}, which {kind} cannot continue")
    rank = adapter.rank / adapter.lineage.blocks
    if (rank, adapter.scaling) != (lora.r, lora.alpha / lora.r) or sorted(adapter.target_modules) != sorted(
        target_modules
    ):
        raise OtherRunError(
            f"{folder} has rank {rank:g} a LoRA, scaling {adapter.scaling:g} and "
            f"modules {sorted(adapter.target_modules)}, "
            f"which lora.r = {lora.r}, lora.alpha = {lora.alpha} and "
            f"model.target_modules = {sorted(target_modules)} cannot continue"
        )


def _module(key: str) -> str:
    return key.removeprefix(OUTER).split(".lora_")[0]


def stack(previous: Adapter | None, new: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the stacked adapter: `new` is PEFT's state dict of one task, `previous` the earlier LoRA."""
    stacked = {}
    for key, tensor in new.items():
        earlier, dim = (
            (previous.a if previous else {}, 0) if ".lora_A." in key else (previous.b if previous else {}, 1)
        )
        block = tensor.detach().float().cpu()
        stacked[key] = torch.cat([earlier[_module(key)], block], dim=dim) if previous else block
    return stacked


def save_adapter(
    folder: Path, tensors: Mapping[str, Tensor], target_modules: Sequence[str], lineage: Lineage, card: str
) -> None:
    """Write a stock PEFT adapter of the lineage's LoRAs, the lineage and the model card.

    Raises DataError when a weight is not finite in the dtype it is saved in.
    """
    from peft import LoraConfig

    lora, blocks = lineage.lora, lineage.blocks
    saved = {key: tensor.to(getattr(torch, lora.save_dtype)).contiguous() for key, tensor in tensors.items()}
    for key, tensor in saved.items():
        if not torch.isfinite(tensor).all():
            raise DataError(
                f"{key} is not finite as {lora.save_dtype}: training diverged (lower train.learning_rate)"
            )
    config = LoraConfig(
        r=lora.r * blocks,
        lora_alpha=lora.alpha * blocks,
        lora_dropout=lora.dropout,
        target_modules=sorted(target_modules),
        task_type="CAUSAL_LM",
        # None where this model alone is not the base: a program that fetches the base itself must not take it
        base_model_name_or_path=None if lineage.base.adapter else lineage.base.id,
        revision=lineage.base.revision,
        inference_mode=True,
    )
    save_file(saved, folder / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))
    stable = read_json(folder / CONFIG)
    # A set: its order would change from run to run
    stable["target_modules"] = sorted(stable["target_modules"])
    write_json(folder / CONFIG, stable)
    lineage.write(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
