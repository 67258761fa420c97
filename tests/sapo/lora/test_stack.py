"""One stock PEFT adapter of all tasks: what was trained is what is saved, loaded, scored and continued."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from transformers import PreTrainedModel

from sapo.artifacts.base_model import read_base
from sapo.artifacts.task import Example
from sapo.config import Lora, Train
from sapo.lora.current import apply_update
from sapo.lora.stack import Adapter, check_continues, load_adapter, save_adapter, stack
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.runtime.errors import DataError, OtherRunError
from sapo.runtime.outputs import output_folder
from sapo.training.card import model_card
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora
from tiny import MODULES, learned, lineage_of


def learn_three_tasks(
    folder: Path,
    tiny_base: Path,
    new_model: Callable[[], PreTrainedModel],
    encoder: PromptEncoder,
    examples: list[Example],
    lora: Lora,
    train: Train,
    weight: float,
) -> tuple[list[PeftModel], list[Path]]:
    """Three stacked tasks, trained and saved as the train stage does: trained models, and their folders."""
    previous: Adapter | None = None
    models, folders, instructions = [], [], list[str]()
    for number, answer in enumerate(("one", "two {2}", "three")):
        model = new_model()
        if previous:
            apply_update(model, previous)
        adapted = new_lora(model, lora, MODULES, seed=number)
        rows = encoder.encode(
            f"Task {answer}.", "?", "en", [replace(e, label=answer) for e in examples], answers=True
        )
        trained = train_task(
            adapted,
            rows,
            train=train,
            seed=number,
            pad=0,
            checkpoints=folder / f"checkpoints{number}",
            earlier_a=previous.a if previous else {},
            orthogonal_weight=weight,
        )
        instructions.append(f"Task {answer}.")
        lineage = lineage_of(tiny_base, lora, instructions)
        target = folder / f"t{number}"
        target.mkdir()
        save_adapter(target, stack(previous, trained.state), MODULES, lineage, model_card(lineage))
        previous = load_adapter(target, lineage.base.fingerprint, lineage.learned)
        models.append(adapted.eval())
        folders.append(target)
    return models, folders


def logits(model: torch.nn.Module, rows: list[Encoded]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(input_ids=torch.tensor([row.prompt])).logits[0] for row in rows])


@pytest.mark.parametrize("weight", [0.0, 0.5], ids=["lora_inc", "olora"])
def test_fault_01_trained_saved_and_scored_logits_agree_after_each_of_three_tasks(
    tmp_path: Path,
    tiny_base: Path,
    new_model: Callable[[], PreTrainedModel],
    encoder: PromptEncoder,
    examples: list[Example],
    lora: Lora,
    train_settings: Train,
    weight: float,
) -> None:
    trained, folders = learn_three_tasks(
        tmp_path, tiny_base, new_model, encoder, examples, lora, train_settings, weight
    )
    rows = encoder.encode("Any instruction.", "?", "en", examples, answers=False)
    untouched = logits(new_model(), rows)
    for number, (model, folder) in enumerate(zip(trained, folders, strict=True), start=1):
        expected = logits(model, rows)
        stock = PeftModel.from_pretrained(new_model(), str(folder))
        scored = new_model()
        apply_update(scored, load_adapter(folder, read_base(tiny_base).fingerprint))
        assert (expected - untouched).abs().max() > 0.05  # the adapter does something
        assert (logits(stock, rows) - expected).abs().max() < 1e-4
        assert (logits(scored, rows) - expected).abs().max() < 1e-4
        assert stock.peft_config["default"].r == lora.r * number
        assert stock.peft_config["default"].lora_alpha / stock.peft_config["default"].r == lora.alpha / lora.r


def test_earlier_tasks_keep_their_blocks_and_the_lineage_names_all(
    tmp_path: Path,
    tiny_base: Path,
    new_model: Callable[[], PreTrainedModel],
    encoder: PromptEncoder,
    examples: list[Example],
    lora: Lora,
    train_settings: Train,
) -> None:
    _, folders = learn_three_tasks(
        tmp_path, tiny_base, new_model, encoder, examples, lora, train_settings, 0.0
    )
    first, last = (
        load_adapter(folder, read_base(tiny_base).fingerprint) for folder in (folders[0], folders[-1])
    )
    for name, a in first.a.items():
        assert torch.equal(last.a[name][: lora.r], a)
        assert torch.equal(last.b[name][:, : lora.r], first.b[name])
    assert last.lineage.learned == ["t0", "t1", "t2"]
    card = (folders[-1] / "README.md").read_text()
    assert "base_model: llama" in card
    assert "    Task two {2}." in card


def saved(
    folder: Path, tiny_base: Path, new_model: Callable[[], PreTrainedModel], lora: Lora, seed: int = 0
) -> Path:
    """The folder, with an adapter of one task."""
    state = get_peft_model_state_dict(learned(new_model(), lora, seed))
    save_adapter(folder, stack(None, state), MODULES, lineage_of(tiny_base, lora), "card")
    return folder


def test_an_adapter_of_another_base_model_is_refused(
    tmp_path: Path, tiny_base: Path, new_model: Callable[[], PreTrainedModel], lora: Lora
) -> None:
    folder = saved(tmp_path, tiny_base, new_model, lora)
    with pytest.raises(DataError, match="trained on base model tiny_llama"):
        load_adapter(folder, "0" * 64)


def test_a_damaged_adapter_is_refused_by_name(
    tmp_path: Path, tiny_base: Path, new_model: Callable[[], PreTrainedModel], lora: Lora
) -> None:
    folder = saved(tmp_path, tiny_base, new_model, lora)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(DataError, match=r"adapter_model\.safetensors"):
        load_adapter(folder, read_base(tiny_base).fingerprint)


def test_weights_that_overflow_the_saved_dtype_are_refused(
    tmp_path: Path, tiny_base: Path, new_model: Callable[[], PreTrainedModel], lora: Lora
) -> None:
    half = lora.model_copy(update={"save_dtype": "float16"})
    model = new_lora(new_model(), half, MODULES, seed=0)
    state = {name: torch.full_like(p, 1e6) for name, p in model.named_parameters() if ".lora_A." in name}
    with pytest.raises(DataError, match="not finite as float16"):
        save_adapter(tmp_path, state, MODULES, lineage_of(tiny_base, half), "card")


def test_fault_18_an_adapter_saved_again_is_the_new_one(
    tmp_path: Path, tiny_base: Path, new_model: Callable[[], PreTrainedModel], lora: Lora
) -> None:
    loaded = []
    for seed in (1, 2):
        with output_folder(tmp_path / "adapter") as folder:
            saved(folder, tiny_base, new_model, lora, seed)
        loaded.append(load_adapter(tmp_path / "adapter", read_base(tiny_base).fingerprint))
    first, second = (adapter.a for adapter in loaded)
    assert all(not torch.equal(first[name], second[name]) for name in first)


def test_stock_tools_find_the_pinned_revision_in_the_adapter(
    tmp_path: Path, tiny_base: Path, new_model: Callable[[], PreTrainedModel], lora: Lora
) -> None:
    lineage = lineage_of(tiny_base, lora)
    for revision in (None, "0a1b" * 10):
        base = lineage.base.model_copy(update={"id": "maker/model", "revision": revision})
        state = get_peft_model_state_dict(learned(new_model(), lora, 1))
        save_adapter(tmp_path, stack(None, state), MODULES, lineage.model_copy(update={"base": base}), "card")
        config = PeftConfig.from_pretrained(str(tmp_path))
        assert (config.base_model_name_or_path, config.revision) == ("maker/model", revision)


def test_an_adapter_that_has_learned_other_tasks_is_refused(
    tmp_path: Path, tiny_base: Path, new_model: Callable[[], PreTrainedModel], lora: Lora
) -> None:
    folder, fingerprint = saved(tmp_path, tiny_base, new_model, lora), read_base(tiny_base).fingerprint
    assert load_adapter(folder, fingerprint, ["t0"]).lineage.learned == ["t0"]
    for tasks in (["t1"], ["t0", "t1"], []):
        with pytest.raises(OtherRunError, match="has learned t0, expected"):
            load_adapter(folder, fingerprint, tasks)


@pytest.mark.parametrize("change", [{"r": 4}, {"alpha": 6}, {"modules": ["q_proj"]}])
def test_an_adapter_of_other_settings_cannot_be_continued(
    tmp_path: Path,
    tiny_base: Path,
    new_model: Callable[[], PreTrainedModel],
    lora: Lora,
    change: dict[str, object],
) -> None:
    adapter = load_adapter(saved(tmp_path, tiny_base, new_model, lora), read_base(tiny_base).fingerprint)
    check_continues(adapter, "stacked", lora, MODULES[::-1], tmp_path)
    modules = change.pop("modules", MODULES)
    with pytest.raises(OtherRunError, match="cannot continue"):
        check_continues(adapter, "stacked", lora.model_copy(update=change), modules, tmp_path)
