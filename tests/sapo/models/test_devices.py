"""Where the frozen weights of a model are divided: at its layers, whatever the architecture calls them."""

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from sapo.models.devices import decoder_layers, is_sharded, shard
from sapo.runtime.errors import DataError

SIZES = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
FAMILIES = {
    "llama": ("LlamaDecoderLayer", {"num_key_value_heads": 1}),
    "qwen3": ("Qwen3DecoderLayer", {"num_key_value_heads": 1, "head_dim": 4}),
    "gpt_neox": ("GPTNeoXLayer", {}),
    "opt": ("OPTDecoderLayer", {"ffn_dim": 16, "word_embed_proj_dim": 8}),
}


def model_of(family: str, layers: int = 3) -> PreTrainedModel:
    """A tiny model of the architecture, with random weights."""
    _, options = FAMILIES[family]
    config = AutoConfig.for_model(family, **SIZES | options, num_hidden_layers=layers)
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_layers_of_every_family_are_found_also_below_a_lora(family: str, layers: int) -> None:
    model = model_of(family, layers)
    found = decoder_layers(model)
    assert [type(layer).__name__ for layer in found] == [FAMILIES[family][0]] * layers
    inside = {parameter for layer in found for parameter in layer.parameters()}
    assert inside == {parameter for name, parameter in model.named_parameters() if ".layers." in name}
    adapted = get_peft_model(model, LoraConfig(r=1, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert decoder_layers(adapted) == found


def test_a_model_without_such_a_list_is_refused_in_one_line() -> None:
    model = model_of("llama", layers=3)
    model.config.num_hidden_layers = 7
    with pytest.raises(
        DataError, match=r"^launch\.shard [^\n]* LlamaForCausalLM: it has no list of 7 layers$"
    ):
        decoder_layers(model)


def test_one_process_divides_nothing() -> None:
    model = model_of("llama")
    assert not is_sharded(model)
    with pytest.raises(DataError, match=r"launch\.shard needs several processes"):
        shard(model)
