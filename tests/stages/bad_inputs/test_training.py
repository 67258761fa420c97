"""Chosen prompts and earlier adapters that cannot be used; selection and evaluation read adapters too."""

import shutil
from collections.abc import Callable

import pytest
import torch

from broken import (
    CHOSEN,
    CONFIG,
    DROP,
    LAYER,
    LINEAGE,
    MADE,
    REPRO,
    WEIGHTS,
    Case,
    a_folder,
    copied,
    cut,
    edited,
    gone,
    params,
    put,
    replaced,
    tensors,
)


def deeper(found: dict[str, torch.Tensor]) -> None:
    """As an adapter of a model with more layers."""
    found |= {name.replace("layers.1", "layers.7"): found[name].clone() for name in found if LAYER in name}


# fmt: off
PROMPTS = [
    Case("a prompt missing", "train mood", gone(CHOSEN),
         r"data/prompts/mood\.json is missing;", MADE),
    Case("a prompt a list", "train mood", put(CHOSEN, "[]"),
         r"data/prompts/mood\.json: expected an object, found list", MADE),
    Case("a prompt that is a number", "train mood", edited(CHOSEN, {"instruction": 1}),
         r"data/prompts/mood\.json: instruction: Input should be a valid string, found 1", MADE),
    Case("a prompt with a loss that is NaN", "train mood",
         edited(CHOSEN, {"candidates.1.loss": float("nan")}),
         r"data/prompts/mood\.json .*NaN is not a finite number", MADE),
    Case("a prompt of another version", "train mood", edited(CHOSEN, {"format": 999}),
         r"data/prompts/mood\.json is of format 999, this program reads format \d", MADE),
    Case("a prompt of another task", "train mood",
         copied("data/prompts/echo.json", CHOSEN),
         r"data/prompts/mood\.json is of another run, see its task", REPRO),
    Case("a prompt of another sequence", "train echo", edited("data/prompts/echo.json", {"after": "base"}),
         r"data/prompts/echo\.json is of another run, see its after", REPRO),
    Case("a prompt for another wording", "train mood",
         edited(CHOSEN, {"original": "Judge it."}),
         r"data/prompts/mood\.json is of another run, see its original", REPRO),
]
ADAPTERS = [
    Case("an adapter missing", "select_prompt echo", gone("models/mood"),
         r"models/mood/lineage\.json is missing;", MADE),
    Case("an adapter without weights", "select_prompt echo", gone(WEIGHTS),
         r"models/mood/adapter_model\.safetensors cannot be read: ", MADE),
    Case("an adapter whose weights are a folder", "select_prompt echo", a_folder(WEIGHTS),
         r"models/mood/adapter_model\.safetensors cannot be read: ", MADE),
    Case("an adapter with empty weights", "select_prompt echo", put(WEIGHTS, ""),
         r"models/mood/adapter_model\.safetensors cannot be read: ", MADE),
    Case("an adapter cut off", "evaluate mood", cut(WEIGHTS, 900),
         r"models/mood/adapter_model\.safetensors cannot be read: ", MADE),
    Case("an adapter with a huge header", "train echo", put(WEIGHTS, b"\xff" * 64),
         r"models/mood/adapter_model\.safetensors cannot be read: ", MADE),
    Case("an adapter that is a pickle", "train echo", put(WEIGHTS, b"\x80\x04\x95\x10" * 40),
         r"models/mood/adapter_model\.safetensors cannot be read: ", MADE),
    Case("an adapter without config", "train echo", gone(CONFIG),
         r"models/mood/adapter_config\.json is missing;", MADE),
    Case("an adapter with half a config", "train echo", cut(CONFIG, 30),
         r"models/mood/adapter_config\.json is not valid JSON", MADE),
    Case("an adapter without a rank", "train echo", edited(CONFIG, {"r": DROP}),
         r"models/mood/adapter_config\.json: r: Field required", MADE),
    Case("an adapter of rank 0", "train echo", edited(CONFIG, {"r": 0}),
         r"models/mood/adapter_config\.json: r = 0 .*above 0", MADE),
    Case("an adapter whose alpha is NaN", "train echo", edited(CONFIG, {"lora_alpha": float("nan")}),
         r"models/mood/adapter_config\.json .*NaN is not a finite number", MADE),
    Case("an adapter whose alpha is a text", "train echo", edited(CONFIG, {"lora_alpha": "16"}),
         r"models/mood/adapter_config\.json: lora_alpha: Input should be a valid number", MADE),
    Case("an adapter for modules by a pattern", "train echo", edited(CONFIG, {"target_modules": ".*"}),
         r"models/mood/adapter_config\.json: target_modules: Input should be a valid list", MADE),
    Case("an adapter with a key twice", "train echo", replaced(CONFIG, "{", '{"r": 9,'),
         r"models/mood/adapter_config\.json .*'r' occurs twice", MADE),
    Case("an adapter whose config has another rank", "select_prompt echo", edited(CONFIG, {"r": 16}),
         r"adapter_model\.safetensors: .*A \[4, 32\], B \[\d+, 4\], .*rank 16", MADE),
    Case("an adapter with another rank in one A", "evaluate mood",
         tensors(WEIGHTS, lambda t: t.update({f"{LAYER}A.weight": torch.ones(3, 32)})),
         r"adapter_model\.safetensors: .*v_proj has A \[3, 32\]", MADE),
    Case("an adapter with a flat tensor", "evaluate mood",
         tensors(WEIGHTS, lambda t: t.update({f"{LAYER}A.weight": torch.ones(128)})),
         r"adapter_model\.safetensors: .*v_proj has A \[128\]", MADE),
    Case("an adapter of a wider model", "evaluate mood",
         tensors(WEIGHTS, lambda t: t.update({f"{LAYER}A.weight": torch.ones(4, 64)})),
         r"v_proj has shape \[16, 64\], the model's weight \[16, 32\]", REPRO),
    Case("an adapter without one B", "select_prompt echo",
         tensors(WEIGHTS, lambda t: t.pop(f"{LAYER}B.weight")),
         r"adapter_model\.safetensors must hold one A and one B .*layers\.1\.self_attn\.v_proj", MADE),
    Case("an adapter without one module", "select_prompt echo",
         tensors(WEIGHTS, lambda t: (t.pop(f"{LAYER}A.weight"), t.pop(f"{LAYER}B.weight"))),
         r"differ in these modules: model\.layers\.1\.self_attn\.v_proj", REPRO),
    Case("an adapter without tensors", "select_prompt echo", tensors(WEIGHTS, lambda t: t.clear()),
         r"adapter_model\.safetensors holds no tensors", MADE),
    Case("an adapter with a tensor of another kind", "select_prompt echo",
         tensors(WEIGHTS, lambda t: t.update({"lm_head.weight": torch.ones(2)})),
         r"must hold one A and one B .*lm_head", MADE),
    Case("an adapter of a deeper model", "train echo",
         tensors(WEIGHTS, deeper),
         r"differ in these modules: model\.layers\.7", REPRO),
    Case("an adapter of modules that the config lacks", "evaluate mood",
         edited(CONFIG, {"target_modules": ["q_proj"]}), r"differ in these modules: .*v_proj", REPRO),
    Case("an adapter with a NaN", "select_prompt echo",
         tensors(WEIGHTS, lambda t: t[f"{LAYER}B.weight"][0].fill_(torch.nan)),
         r"adapter_model\.safetensors: .*v_proj holds NaN or infinity", MADE),
    Case("an adapter with an infinity", "evaluate mood",
         tensors(WEIGHTS, lambda t: t[f"{LAYER}A.weight"][0].fill_(torch.inf)),
         r"adapter_model\.safetensors: .*v_proj holds NaN or infinity", MADE),
    Case("an adapter of another base model", "train echo", edited(LINEAGE, {"base.fingerprint": "f" * 64}),
         r"models/mood was trained on base model tiny_llama \(f{12}\)", REPRO),
    Case("an adapter without lineage", "evaluate mood", gone(LINEAGE),
         r"models/mood/lineage\.json is missing;", MADE),
    Case("an adapter with half a lineage", "evaluate mood", cut(LINEAGE, 300),
         r"models/mood/lineage\.json is not valid JSON", MADE),
    Case("an adapter of no base", "evaluate mood", edited(LINEAGE, {"base": {}}),
         r"models/mood/lineage\.json: base\.name: Field required", MADE),
    Case("an adapter without its tasks", "evaluate mood", edited(LINEAGE, {"tasks": []}),
         r"models/mood/lineage\.json is of another run: it has learned nothing", REPRO),
    Case("an adapter without its prompt", "evaluate mood", edited(LINEAGE, {"tasks.0.prompt": DROP}),
         r"models/mood/lineage\.json: tasks\.0\.prompt: Field required", MADE),
    Case("an adapter of another task", "train echo", edited(LINEAGE, {"tasks.0.task": "joy"}),
         r"models/mood/lineage\.json is of another run: .*joy.*mood", REPRO),
    Case("an adapter of a later task", "train echo",
         lambda: (gone("models/mood")(), shutil.copytree("models/echo", "models/mood")),
         r"models/mood/lineage\.json is of another run: .*mood, echo, expected mood", REPRO),
    Case("an adapter of another rank than the settings'", "train echo", params(lora__r=8),
         r"models/mood has rank 4 a task.*lora\.r = 8", REPRO),
    Case("an adapter of another alpha than the settings'", "train echo", params(lora__alpha=4),
         r"models/mood has .*scaling 4 .*lora\.alpha = 4", REPRO),
    Case("an adapter of other modules than the settings'", "train echo",
         params(model__target_modules=["q_proj"]),
         r"models/mood has .*modules .*model\.target_modules = \['q_proj'\]", REPRO),
]
# fmt: on


@pytest.mark.parametrize("case", [*PROMPTS, *ADAPTERS], ids=lambda case: case.id)
def test_what_training_starts_from_is_named_where_it_cannot_be_used(
    case: Case, refused: Callable[[Case], None]
) -> None:
    refused(case)
