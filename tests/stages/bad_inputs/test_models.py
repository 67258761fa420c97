"""Base models, tokenizers and chat templates that cannot be used."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from broken import (
    BASE,
    BASED,
    DROP,
    Case,
    Change,
    both,
    cut,
    edited,
    gone,
    params,
    put,
    recorded,
    tensors,
    wheel,
)


def own_model(*then: Change) -> Change:
    """The base model comes from a folder of one's own, in which something is changed."""

    def change() -> None:
        shutil.copytree("models/base", "own")
        params(model__source="folder", model__id="own", model__path="own")()
        both(*then)()

    return change


# fmt: off
CASES = [
    Case("an architecture that is none", "base_model", params(model__id="lama"),
         r"model\.id: the architecture 'lama' cannot be used: "),
    Case("an architecture that does not answer", "base_model", params(model__id="vit"),
         r"model\.id: the architecture 'vit' cannot be used: "),
    Case("no model folder", "base_model", params(model__source="folder", model__id="own", model__path="own"),
         r"model\.id: .*/own is not a Hugging Face model folder"),
    Case("a model folder without safetensors", "base_model",
         own_model(lambda: Path("own/model.safetensors").rename("own/pytorch_model.bin")),
         r"model\.id: .*/own is not .* with safetensors"),
    Case("a model folder without config", "base_model", own_model(gone("own/config.json")),
         r"model\.id: .*/own is not a Hugging Face model folder"),
    Case("a model folder with half a config", "base_model", own_model(cut("own/config.json", 40)),
         r"own/config\.json is not valid JSON"),
    Case("a hub out of reach", "base_model",
         params(model__source="hub", model__id="someone/model", model__revision="0" * 40),
         r"model\.id: cannot fetch someone/model at 0{40}.*HF_TOKEN"),
    Case("a wheel without the member", "base_model", wheel({"other": b""}, "model.gguf"),
         r"mine==1\.0 has no usable member model\.gguf"),
    Case("a wheel that is no archive", "base_model", wheel(b"PK no", "model.gguf"),
         r"mine==1\.0 has no usable member model\.gguf"),
    Case("a wheel whose model is none", "base_model", wheel({"model.gguf": b"GGUX" * 99}, "model.gguf"),
         r"model\.wheel: model\.gguf of mine==1\.0 cannot be used"),
    Case("base.json missing", "evaluate base", gone("models/base/base.json"),
         r"models/base/base\.json is missing;", BASED),
    Case("base.json without its fingerprint", "evaluate mood",
         edited("models/base/base.json", {"fingerprint": DROP}),
         r"models/base/base\.json: fingerprint: Field required", BASED),
    Case("a model folder that was moved", "evaluate base",
         edited("models/base/base.json", {"source": "folder", "location": "/nowhere/own"}),
         r"/nowhere/own is no longer there", "dvc repro -f base_model"),
    Case("other weights than the recorded ones", "evaluate base", put(BASE, ""),
         r"models/base is not the model that models/base/base\.json records: see model\.safetensors", BASED),
    Case("another config", "train mood", edited("models/base/config.json", {"rms_norm_eps": 1e-3}),
         r"models/base is not the model that .* records: see config\.json", BASED),
    Case("a tokenizer that is gone", "select_prompt mood", gone("models/base/tokenizer.json"),
         r"models/base is not the model that .* records: see tokenizer\.json", BASED),
    Case("weights that came later", "evaluate base", put("models/base/model-00002.safetensors", "x"),
         r"models/base is not the model that .* records: see model-00002\.safetensors", BASED),
    Case("weights missing", "evaluate base", recorded(gone(BASE)),
         r"the model in models/base cannot be used: .*model\.safetensors"),
    Case("weights empty", "evaluate base", recorded(put(BASE, "")), r"the model in models/base cannot be used: "),
    Case("weights cut off", "select_prompt mood", recorded(cut(BASE, 5000)),
         r"the model in models/base cannot be used: "),
    Case("weights with a huge header", "evaluate base", recorded(put(BASE, b"\xff" * 64)),
         r"the model in models/base cannot be used: "),
    Case("weights without a layer's tensor", "evaluate base",
         recorded(tensors(BASE, lambda t: t.pop("model.layers.1.mlp.up_proj.weight"))),
         r"the weights in models/base lack model\.layers\.1\.mlp\.up_proj\.weight"),
    Case("weights of another shape", "evaluate base",
         recorded(tensors(BASE, lambda t: t.update({"model.layers.0.mlp.up_proj.weight": torch.ones(9, 9)}))),
         r"the model in models/base cannot be used: "),
    Case("weights that are NaN, to answer", "evaluate base",
         recorded(tensors(BASE, lambda t: t["model.norm.weight"].fill_(torch.nan))), r"NaN.*weights or model\.dtype"),
    Case("weights that are NaN, to score", "select_prompt mood",
         recorded(tensors(BASE, lambda t: t["model.norm.weight"].fill_(torch.nan))),
         r"a prompt's loss is nan: .*weights or dtype"),
    Case("weights that are NaN, to train", "train mood",
         recorded(tensors(BASE, lambda t: t["model.norm.weight"].fill_(torch.nan))), r"the training loss is nan"),
    Case("config cut off", "evaluate base", recorded(cut("models/base/config.json", 50)),
         r"the model in models/base cannot be used: |the tokenizer in models/base cannot be used: "),
    Case("config of an unknown type", "train mood", recorded(edited("models/base/config.json", {"model_type": "lama"})),
         r"in models/base cannot be used: .*lama"),
    Case("tokenizer cut off", "evaluate base", recorded(cut("models/base/tokenizer.json", 500)),
         r"the tokenizer in models/base cannot be used: "),
    Case("tokenizer missing", "train mood", recorded(gone("models/base/tokenizer.json")),
         r"the tokenizer in models/base cannot be used: "),
    Case("no chat template", "evaluate base", recorded(gone("models/base/chat_template.jinja")),
         r"models/base: the tokenizer has no chat template; choose an instruction-tuned model"),
    Case("a chat template that is broken", "evaluate base",
         recorded(put("models/base/chat_template.jinja", "{% for x in")),
         r"chat template fails with model\.template_options"),
    Case("a chat template that refuses", "train mood",
         recorded(put("models/base/chat_template.jinja", "{{ raise_exception('no users here') }}")),
         r"chat template fails .*no users here"),
    Case("a chat template that hides the text", "evaluate base",
         recorded(put("models/base/chat_template.jinja", "hello")),
         r"chat template does not show the user's text exactly once"),
    Case("a chat template that repeats the text", "evaluate base",
         recorded(put("models/base/chat_template.jinja", "{{ messages[0].content }}{{ messages[0].content }}")),
         r"chat template does not show the user's text exactly once"),
    Case("template options that clash", "evaluate base", params(model__template_options={"tokenize": True}),
         r"chat template fails with model\.template_options"),
    Case("modules that the model lacks", "train mood", params(model__target_modules=["c_attn"]),
         r"model\.target_modules: LlamaForCausalLM has no module 'c_attn'; its linear layers: "),
    Case("an engine that is not installed", "evaluate base", params(evaluate__engine="vllm"),
         r"evaluate\.engine=vllm: vLLM cannot be used here.*use transformers"),
    Case("one process to share weights", "evaluate base", params(launch__shard=True),
         r"launch\.shard needs several processes: see conf/launch"),
]
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_model_that_cannot_be_used_is_named_and_changes_no_output(
    case: Case, refused: Callable[[Case], None]
) -> None:
    refused(case)
