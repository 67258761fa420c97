"""Which modules get a LoRA: PEFT's rule, wherever the setting is read."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from sapo.artifacts.base_model import read_base
from sapo.config import Lora
from sapo.lora.current import apply_update
from sapo.lora.stack import check_continues, load_adapter, save_adapter, stack
from sapo.lora.targets import adapted_modules, check_targets
from sapo.runtime.errors import DataError
from sapo.training.new_lora import new_lora
from tiny import lineage_of, logits

ENTRIES = [
    ["q_proj", "v_proj"],
    ["self_attn.q_proj", "down_proj"],
    ["model.layers.1.self_attn.q_proj"],  # one module by its whole name
    ["layers.0.mlp.up_proj", "self_attn.o_proj", "o_proj"],  # two entries for the same modules
]


@pytest.mark.parametrize("entries", ENTRIES, ids=str)
def test_any_names_that_peft_takes_are_trained_saved_and_applied(
    tmp_path: Path, tiny_base: Path, new_model: Callable[[], PreTrainedModel], lora: Lora, entries: list[str]
) -> None:
    model = new_lora(new_model(), lora, entries, 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=0.3)
    state = get_peft_model_state_dict(model)
    assert len(state) == 2 * len(adapted_modules(new_model(), entries))
    save_adapter(tmp_path, stack(None, state), entries, lineage_of(tiny_base, lora), "card")
    adapter = load_adapter(tmp_path, read_base(tiny_base).fingerprint)
    check_continues(adapter, "stacked", lora, entries, tmp_path)
    scored = new_model()
    apply_update(scored, adapter)
    stock = PeftModel.from_pretrained(new_model(), str(tmp_path)).eval()
    torch.testing.assert_close(logits(scored), logits(stock), rtol=1e-3, atol=2e-3)


OWN = {"phi3": "qkv_proj", "gpt_neox": "query_key_value", "opt": "out_proj", "falcon_h1": "in_proj"}


@pytest.mark.parametrize(("architecture", "module"), OWN.items())
def test_each_architecture_has_its_own_names_and_a_wrong_one_is_answered_with_them(
    architecture: str, module: str
) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture))
    check_targets(model, [module])
    with pytest.raises(DataError, match=rf"has no module 'Wqkv'; its linear layers: .*{module}"):
        check_targets(model, [module, "Wqkv"])


def test_layers_that_share_one_weight_are_refused(new_model: Callable[[], PreTrainedModel]) -> None:
    """PEFT would train two updates, and both would be added to the one weight."""
    model = new_model()
    first, second = (layer.self_attn for layer in model.model.layers)
    second.q_proj.weight = first.q_proj.weight
    with pytest.raises(DataError, match=r"layers\.0\.self_attn\.q_proj and .*layers\.1.* share one weight"):
        check_targets(model, ["q_proj"])
    check_targets(model, ["v_proj"])
