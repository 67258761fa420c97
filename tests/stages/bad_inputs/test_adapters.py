"""Adapters that cannot be part of the base model: refused before any other work."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from broken import BASED, CONFIG, WEIGHTS, Case, Change, both, cut, edited, gone, params, put, tensors

OWN, OWN_WEIGHTS = "own/adapter_config.json", "own/adapter_model.safetensors"
A = "base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight"
HEAD = "base_model.model.lm_head.weight"


def adapter(*then: Change) -> Change:
    """The base model has the adapter of the first task, in which something is changed."""

    def change() -> None:
        Path("own").mkdir()
        for path in (CONFIG, WEIGHTS):
            shutil.copy(path, "own")
        params(model__adapter="own")()
        both(*then)()

    return change


def config(**changes: object) -> Change:
    return adapter(edited(OWN, changes))


def as_pickle() -> None:
    Path(OWN_WEIGHTS).rename("own/adapter_model.bin")


def made(*then: Change) -> Change:
    """models/base/ already has the adapter."""

    def change() -> None:
        import base_model

        adapter()()
        base_model.base_model()
        both(*then)()

    return change


# fmt: off
CASES = [
    Case("no adapter there", "base_model", params(model__adapter="own"),
         r"own holds no adapter_config\.json and adapter_model\.safetensors: save the adapter with PEFT"),
    Case("an adapter as a pickle", "base_model", adapter(as_pickle),
         r"own holds no .*\(a pickle such as adapter_model\.bin is never read\)"),
    Case("an adapter without its configuration", "base_model", adapter(gone(OWN)),
         r"own holds no adapter_config\.json"),
    Case("half a configuration", "base_model", adapter(cut(OWN, 40)),
         r"own/adapter_config\.json is not valid JSON"),
    Case("a configuration that is a list", "base_model", adapter(put(OWN, "[]")),
         r"own/adapter_config\.json: peft_type is None, only 'LORA'"),
    Case("another kind of adapter", "base_model", config(peft_type="IA3"),
         r"own/adapter_config\.json: peft_type is 'IA3', only 'LORA' can be used"),
    Case("DoRA", "base_model", config(use_dora=True), r"own/.*: use_dora = True cannot be used"),
    Case("trained biases", "base_model", config(bias="lora_only"), r"bias = 'lora_only' cannot be used"),
    Case("an update with a bias", "base_model", config(lora_bias=True), r"lora_bias = True cannot be used"),
    Case("whole modules", "base_model", config(modules_to_save=["lm_head"]),
         r"modules_to_save = \['lm_head'\] cannot be used"),
    Case("trained tokens", "base_model", config(trainable_token_indices=[3]),
         r"trainable_token_indices = \[3\] cannot be used"),
    Case("layers twice", "base_model", config(layer_replication=[[0, 2], [1, 2]]),
         r"layer_replication = .* cannot be used"),
    Case("what no version knows yet", "base_model", config(mlora=True), r"mlora = True cannot"),
    Case("a start that changes the base", "base_model", config(init_lora_weights="pissa"),
         r"init_lora_weights = 'pissa' changes the base model too: convert it to plain LoRA"),
    Case("a rank that is a text", "base_model", config(r="four"), r"own/adapter_config\.json does not fit "),
    Case("a rank of nothing", "base_model", config(r=0), r"own/adapter_config\.json does not fit "),
    Case("modules of another model", "base_model", config(target_modules=["c_attn"]),
         r"own/adapter_config\.json does not fit LlamaForCausalLM: Target modules .*c_attn"),
    Case("an adapted output layer", "base_model", config(target_modules=["lm_head"]),
         r"lm_head can have no update here, only inner linear layers can"),
    Case("adapted embeddings", "base_model", config(target_modules=["embed_tokens"]),
         r"embed_tokens can have no update here, only inner linear layers can"),
    Case("an adapter of a wider model", "base_model",
         adapter(tensors(OWN_WEIGHTS, lambda t: t.update({A: torch.ones(4, 33)}))),
         r"adapter_model\.safetensors: .*lora_A\.weight has shape \[4, 33\], in this model it is \[8, 32\]"),
    Case("a tensor missing", "base_model", adapter(tensors(OWN_WEIGHTS, lambda t: t.pop(A))),
         r"adapter_model\.safetensors lacks .*layers\.1\.self_attn\.v_proj\.lora_A"),
    Case("a tensor that is nobody's", "base_model",
         adapter(tensors(OWN_WEIGHTS, lambda t: t.update({HEAD: torch.ones(2)}))),
         r"adapter_model\.safetensors holds base_model\.model\.lm_head\.weight: no A or B"),
    Case("a tensor that is NaN", "base_model",
         adapter(tensors(OWN_WEIGHTS, lambda t: t[A].fill_(torch.nan))),
         r"v_proj\.lora_A\.weight holds NaN, infinity"),
    Case("tensors cut off", "base_model", adapter(cut(OWN_WEIGHTS, 2000)),
         r"adapter_model\.safetensors cannot be read: "),
    Case("an adapter that DVC does not watch", "base_model",
         params(model__adapter="a", model__adapter_path="b"),
         r"adapter_path: must be the adapter's folder, a, so that DVC watches it"),
    Case("an adapter and vLLM", "base_model", params(model__adapter="a", evaluate__engine="vllm"),
         r"evaluate\.engine=vllm cannot be used with model\.adapter: use transformers"),
    Case("an adapter that was changed after it was taken", "evaluate base",
         made(tensors("models/base/adapter/adapter_model.safetensors", lambda t: t[A].fill_(1.0))),
         r"models/base/adapter is not the adapter that .*base\.json records: see adapter_model", BASED),
    Case("an adapter that was removed after it was taken", "select_prompt mood",
         made(gone("models/base/adapter")),
         r"models/base/adapter is not the adapter that .*base\.json records: see adapter_config", BASED),
]
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_adapter_that_cannot_be_used_is_named_and_changes_no_output(
    case: Case, refused: Callable[[Case], None]
) -> None:
    refused(case)
