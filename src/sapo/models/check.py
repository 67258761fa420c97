"""Whether a base model can be used at all, found from its configuration and tokenizer before any work."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM

from sapo.artifacts.base_model import read_base
from sapo.config import Params
from sapo.lora.targets import add_lora
from sapo.models.adapter import read_updates
from sapo.models.context import check_length
from sapo.models.load import load_tokenizer, named, weights_folder
from sapo.prompts.encoder import PromptEncoder
from sapo.runtime.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OWN_FORMAT = {"cpmant"}  # reads more than a row's tokens
# What every forward call here is told beside the tokens
NEEDED = {"attention_mask", "logits_to_keep"}


def check_base(params: Params, folder: Path) -> None:
    """Refuse (DataError) the model in `folder`, as `make_base` has left it, if these settings cannot use it.

    What `check_model` looks at, and the modules to adapt.
    """
    model = check_model(
        folder, params.prompt.max_tokens, params.evaluate.max_new_tokens, params.model.template_options
    )
    add_lora(model, LoraConfig(r=1, target_modules=params.model.target_modules, task_type="CAUSAL_LM"))


def check_model(
    folder: Path, max_tokens: int, max_new_tokens: int, template_options: dict[str, Any]
) -> "PreTrainedModel":
    """The model in `folder` without weights. DataError where it cannot read prompts and answers so long.

    Its architecture, context, tokenizer, chat template and adapter are looked at.
    """
    location = weights_folder(folder)
    with named(f"the model in {location}"):
        config = AutoConfig.from_pretrained(location, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    kind = type(model).__name__
    decoder = getattr(config, "is_decoder", True) and getattr(config, "causal", True)
    if config.is_encoder_decoder or not decoder or config.model_type in OWN_FORMAT:
        raise DataError(f"model.id: {kind} is no causal language model: choose another")
    if missing := sorted(NEEDED - inspect.signature(model.forward).parameters.keys()):
        raise DataError(f"model.id: {kind} cannot be told {' and '.join(missing)}: choose another model")
    check_length(config, max_tokens + max_new_tokens)
    PromptEncoder(load_tokenizer(folder), max_tokens, template_options)
    if adapter := read_base(folder).adapter:
        read_updates(model, Path(adapter.id))  # the user's own, which an error names
    checked: PreTrainedModel = model
    return checked
