"""What tests make for the tiny model: adapters that have learned something, a lineage, a folder of tasks."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from laboratory import REPOSITORY
from sapo.artifacts.base_model import read_base
from sapo.artifacts.lineage import Learned, Lineage, MethodOfAdapter
from sapo.artifacts.run_record import PromptText, TrainingRecord, TrainingSettings, reading
from sapo.artifacts.versions import versions
from sapo.config import Lora, load_params
from sapo.training.new_lora import new_lora

NewModel = Callable[[], PreTrainedModel]
MODULES = ["q_proj", "v_proj"]
SUFFIX = "Answer yes or no."
HEAD, TAIL = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"  # of every prompt, by its template


def lineage_of(base: Path, lora: Lora, instructions: Sequence[str] = ("Judge it.",)) -> Lineage:
    """The lineage of an adapter of the model in `base` with a task t0, t1 ... for each instruction."""
    params, about = load_params(REPOSITORY / "params.yaml"), read_base(base)
    settings = TrainingSettings(
        **dict(reading(params, "3" * 64)),
        selector="original",
        adapter="stacked",
        replay=0.0,
        orthogonal_weight=0.0,
        lora=lora.model_dump(),
        train={},
        target_modules=MODULES,
    )
    learned = []
    for number, instruction in enumerate(instructions):
        prompt = PromptText(instruction=instruction, suffix=SUFFIX, language="en")
        run = TrainingRecord(
            base=about.fingerprint,
            previous="0" * 64 if number else None,
            train="1" * 64,
            prompt=prompt.sha256,
            earlier=[],
            seed=number,
            settings=settings,
            versions=versions(),
            device="cpu",
        )
        learned.append(
            Learned(
                task=f"t{number}",
                prompt=prompt,
                original=instruction,
                selector="original",
                selection="2" * 64,
                rows=12,
                run=run,
                history=[],
            )
        )
    return Lineage(
        base=about.in_lineage(),
        seed=0,
        method=MethodOfAdapter.of(params.method),
        lora=lora,
        train=params.train,
        prompt=params.prompt,
        sequence="s",
        template_options={},
        dtype="float32",
        versions=versions(),
        tasks=learned,
    )


def learned(model: PreTrainedModel, lora: Lora, seed: int) -> PeftModel:
    """The model with a LoRA that has learned something: its B is not zero."""
    adapted = new_lora(model, lora, MODULES, seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return adapted.eval()


def new_a(model: PeftModel) -> dict[str, torch.Tensor]:
    """The A of the model's LoRA, module by module."""
    modules = model.get_base_model().named_modules()
    return {
        name: module.lora_A["default"].weight.detach()
        for name, module in modules
        if hasattr(module, "lora_A")
    }


def logits(model: torch.nn.Module) -> torch.Tensor:
    """Of one short row."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 70, 80, 90, 100, 110]])).logits


def write_tasks(folder: Path) -> None:
    """A task `t` of one training and one test row, and an empty dev file, in the benchmarks' layout."""
    (folder / "t").mkdir(parents=True, exist_ok=True)
    about = {"instruction": "Judge it.", "suffix": SUFFIX, "labels": []}
    (folder / "instructions.json").write_text(json.dumps({"t": about}))
    for split in ("train", "test"):
        rows = [{"sentence": f"a {split} text", "label": "yes"}]
        (folder / "t" / f"{split}.json").write_text(json.dumps(rows))
    (folder / "t/dev.json").write_text("[]")


def peft_adapter(model: PreTrainedModel, folder: Path, seed: int = 0, **config: Any) -> Path:
    """The folder of a stock PEFT LoRA adapter of this configuration, whose B is not zero."""
    torch.manual_seed(seed)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(str(folder))
    return folder
