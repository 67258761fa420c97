"""A stock PEFT LoRA adapter that is part of the base model (`model.adapter`), read by PEFT's own rules."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sapo.artifacts.lineage import LINEAGE, WEIGHTS, read_lineage
from sapo.lora.stack import CONFIG, OUTER
from sapo.lora.targets import inner_linear
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What of PEFT's configuration decides which modules have an update, and how much it counts
DECIDES = {
    *("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
}
# What is of training alone, or says nothing
WITHOUT_EFFECT = {
    *("peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision"),
    *("inference_mode", "lora_dropout", "fan_in_fan_out", "init_lora_weights", "eva_config"),
    *("megatron_core", "qalora_group_size", "ensure_weight_tying"),
}
STARTS = (
    True,
    False,
    "gaussian",
    "eva",
    "orthogonal",
)  # of init_lora_weights: those that leave the base as it is


def copy_adapter(source: Path, folder: Path) -> None:
    """Copy weights and configuration of the adapter in `source` to the new `folder`.

    Raises DataError where there is none, or one that is more than LoRA on linear layers.
    """
    if not (source / WEIGHTS).is_file() or not (source / CONFIG).is_file():
        pickled = " (a pickle such as adapter_model.bin is never read)" if list(source.glob("*.bin")) else ""
        raise DataError(f"{source} holds no {CONFIG} and {WEIGHTS}{pickled}: save the adapter with PEFT")
    read_config(source)
    folder.mkdir()
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(source / name, folder / name)


def check_origin(source: Path, fingerprint: str) -> None:
    """Refuse (DataError) one of this project's own adapters that was trained on another model than this."""
    if (source / LINEAGE).is_file() and (base := read_lineage(source).base).fingerprint != fingerprint:
        raise DataError(
            f"{source} was trained on {base.name} ({base.fingerprint:.12}), and this base model is another "
            f"({fingerprint:.12}): choose that one, or remove {LINEAGE} if they are the same to you"
        )


def read_config(folder: Path) -> LoraConfig:
    """What decides in the adapter's configuration. Raises DataError for what cannot be added to a weight."""
    path = folder / CONFIG
    found = read_json(path)
    kind = found.get("peft_type") if isinstance(found, dict) else None
    if kind != "LORA":
        raise DataError(f"{path}: peft_type is {kind!r:.40}, only 'LORA' can be used")
    usual = LoraConfig().to_dict()
    others = found.keys() - DECIDES - WITHOUT_EFFECT
    if odd := sorted(key for key in others if found[key] and found[key] != usual.get(key)):
        told = ", ".join(f"{key} = {found[key]!r:.60}" for key in odd)
        raise DataError(f"{path}: {told} cannot be used: only LoRA's A and B of linear layers are added")
    start = found.get("init_lora_weights", True)
    if start is not None and start not in STARTS:
        raise DataError(
            f"{path}: init_lora_weights = {start!r:.40} changes the base model too: "
            "convert it to plain LoRA (PEFT's save_pretrained with path_initial_model_for_weight_conversion)"
        )
    try:
        return LoraConfig(**{key: found[key] for key in DECIDES & found.keys()}, task_type="CAUSAL_LM")
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be used: {error!s:.300}") from None


def read_updates(model: "PreTrainedModel", folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Module name -> a (r, in) and b (out, r) in float32: the adapter adds b @ a to the module's weight.

    PEFT says which modules those are and how each update is scaled: the adapter is put on a copy of the model
    without weights. Raises DataError where that or a tensor does not fit.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        twin: Any = AutoModelForCausalLM.from_config(model.config, trust_remote_code=False)
        inner = inner_linear(twin)
        try:
            adapted = get_peft_model(twin, read_config(folder))
        except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            raise DataError(
                f"{folder / CONFIG} does not fit {type(model).__name__}: {error!s:.300}"
            ) from None
    layers = {
        name.removeprefix(OUTER): layer
        for name, layer in adapted.named_modules()
        if isinstance(layer, LoraLayer)
    }
    if odd := sorted(layers.keys() - set(inner)):
        raise DataError(
            f"{folder / CONFIG}: {', '.join(odd):.200} can have no update here, only inner linear layers can"
        )
    tensors = _tensors(folder / WEIGHTS, layers)
    updates = {}
    for name, layer in layers.items():
        a, b = (tensors[f"{OUTER}{name}.lora_{side}.weight"].float() for side in "AB")
        updates[name] = a, layer.scaling["default"] * b
    return updates


def _tensors(path: Path, layers: dict[str, Any]) -> dict[str, Tensor]:
    """The file's tensors. Raises DataError for all but one finite A and B of each layer, of its shape."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    expected = {
        f"{OUTER}{name}.lora_{side}.weight": getattr(layer, f"lora_{side}")["default"].weight.shape
        for name, layer in layers.items()
        for side in "AB"
    }
    if missing := sorted(expected.keys() - tensors.keys()):
        raise DataError(f"{path} lacks {', '.join(missing):.200}, which {CONFIG} asks for in this model")
    if others := sorted(tensors.keys() - expected.keys()):
        raise DataError(
            f"{path} holds {', '.join(others):.200}: no A or B of a module that {CONFIG} adapts in this model"
        )
    for key, shape in expected.items():
        if tensors[key].shape != shape:
            found = list(tensors[key].shape)
            raise DataError(f"{path}: {key} has shape {found}, in this model it is {list(shape)}")
        if not (tensors[key].is_floating_point() and torch.isfinite(tensors[key]).all()):
            raise DataError(f"{path}: {key} holds NaN, infinity or no floating-point numbers")
    return tensors
