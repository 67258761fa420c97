"""Base models, tokenizers and chat templates that cannot be used."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import ByT5Tokenizer

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


def architecture(name: str, modules: list[str]) -> Change:
    """The base model is a random one of another architecture."""
    return params(model__id=name, model__target_modules=modules)


def slow_tokenizer() -> None:
    """A tokenizer in Python, which gives no offsets."""
    Path("own/tokenizer.json").unlink()
    tokenizer = ByT5Tokenizer(chat_template=Path("own/chat_template.jinja").read_text())
    tokenizer.save_pretrained("own")


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
    Case("a layer whose name is mistyped", "base_model",
         params(model__target_modules=["q_proj", "v_proj", "gateproj"]),
         r"LlamaForCausalLM has no module 'gateproj'; its linear layers: .*gate_proj"),
    Case("part of a layer's name", "base_model", params(model__target_modules=["proj"]),
         r"has no module 'proj'; its linear layers: .*q_proj"),
    Case("the output layer to adapt", "base_model", params(model__target_modules=["q_proj", "lm_head"]),
         r"'lm_head' names lm_head, which is the output layer: only inner linear layers"),
    Case("embeddings to adapt", "base_model", params(model__target_modules=["embed_tokens"]),
         r"'embed_tokens' names model\.embed_tokens, which is of type Embedding: only inner linear layers"),
    Case("a whole block to adapt", "base_model", params(model__target_modules=["self_attn"]),
         r"'self_attn' names .*, which is of type LlamaAttention: only inner linear layers"),
    Case("a layer named twice", "base_model", params(model__target_modules=["q_proj", "q_proj"]),
         r"model\.target_modules: Value error, q_proj is named twice"),
    Case("layers that are not linear", "base_model", architecture("gpt2", ["c_attn"]),
         r"'c_attn' names .*, which is of type Conv1D: only inner linear layers"),
    Case("layers that PEFT refuses", "base_model", architecture("mamba", ["in_proj", "out_proj"]),
         r"model\.target_modules = .*: .*'out_proj' is incompatible with Mamba"),
    Case("a model that reads both ways", "base_model", architecture("bert", ["query"]),
         r"model\.id: BertLMHeadModel is no causal language model"),
    Case("a model that may read both ways", "base_model", architecture("xlm", ["q_lin"]),
         r"model\.id: XLMWithLMHeadModel is no causal language model"),
    Case("a model with a format of its own", "base_model", architecture("cpmant", ["project_q"]),
         r"model\.id: CpmAntForCausalLM is no causal language model"),
    Case("prompts beyond the model's context", "base_model", params(prompt__max_tokens=2048),
         r"the model reads at most 2048 tokens .*max_position_embeddings.*, prompt and answer need \d+: "
         r"lower prompt\.max_tokens"),
    Case("answers beyond the model's context", "base_model", params(evaluate__max_new_tokens=2040),
         r"the model reads at most 2048 tokens .*or evaluate\.max_new_tokens"),
    Case("a folder that DVC does not watch", "base_model", own_model(params(model__path="elsewhere")),
         r"path: must be the model's folder, own, so that DVC watches it"),
    Case("a chat template that draws at random", "base_model",
         own_model(put("own/chat_template.jinja", "{{ [1, 2] | random }}{{ messages[0].content }}")),
         r"chat template asks for the time or draws at random"),
    Case("a chat template that asks for the time", "base_model",
         own_model(put("own/chat_template.jinja", "{{ strftime_now(a) }}{{ messages[0].content }}")),
         r"chat template asks for the time .*model\.template_options\.chat_template"),
    Case("a tokenizer that tells no places", "base_model", own_model(slow_tokenizer),
         r"the tokenizer \(ByT5Tokenizer\) does not tell where .*: choose a model with a tokenizer\.json"),
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
    Case("weights empty", "evaluate base", recorded(put(BASE, "")),
         r"the model in models/base cannot be used: "),
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
         recorded(tensors(BASE, lambda t: t["model.norm.weight"].fill_(torch.nan))),
         r"NaN.*weights or model\.dtype"),
    Case("weights that are NaN, to score", "select_prompt mood",
         recorded(tensors(BASE, lambda t: t["model.norm.weight"].fill_(torch.nan))),
         r"a prompt's loss is nan: .*weights or dtype"),
    Case("weights that are NaN, to train", "train mood",
         recorded(tensors(BASE, lambda t: t["model.norm.weight"].fill_(torch.nan))),
         r"the training loss is nan"),
    Case("config cut off", "evaluate base", recorded(cut("models/base/config.json", 50)),
         r"the model in models/base cannot be used: |the tokenizer in models/base cannot be used: "),
    Case("config of an unknown type", "train mood",
         recorded(edited("models/base/config.json", {"model_type": "lama"})),
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
         recorded(put("models/base/chat_template.jinja", "{{ messages[0].content }}" * 2)),
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
