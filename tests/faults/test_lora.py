"""Faults of the stacked adapter."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from torch.utils.flop_counter import FlopCounterMode

from faulty import refuses, tell_apart, works
from sapo.artifacts.base_model import read_base
from sapo.config import Lora
from sapo.lora.current import apply_update
from sapo.lora.stack import CONFIG, Adapter, load_adapter, save_adapter, stack
from sapo.runtime.files import read_json
from sapo.runtime.outputs import output_folder, write_json
from sapo.training.new_lora import new_lora
from tiny import MODULES, NewModel, learned, lineage_of, logits


def test_fault_01_the_saved_scaling_stays_while_the_rank_grows(
    tmp_path: Path, tiny_base: Path, new_model: NewModel, lora: Lora
) -> None:
    fingerprint = read_base(tiny_base).fingerprint

    def save(folder: Path, tensors: Any, tasks: int) -> None:
        with output_folder(folder) as target:
            save_adapter(target, tensors, MODULES, lineage_of(tiny_base, lora, ["Judge it."] * tasks), "card")

    def save_with_constant_alpha(folder: Path, tensors: Any, tasks: int) -> None:
        save(folder, tensors, tasks)
        write_json(folder / CONFIG, read_json(folder / CONFIG) | {"lora_alpha": lora.alpha})

    def check(saving: Callable[[Path, Any, int], None]) -> None:
        previous: Adapter | None = None
        for task in range(3):
            model = new_model()
            if previous:
                apply_update(model, previous)
            adapted = learned(model, lora, task)
            saving(tmp_path / f"{task}", stack(previous, get_peft_model_state_dict(adapted)), task + 1)
            previous = load_adapter(tmp_path / f"{task}", fingerprint)
            stock = PeftModel.from_pretrained(new_model(), str(tmp_path / f"{task}"))
            scored = new_model()
            apply_update(scored, previous)
            assert (logits(stock) - logits(adapted)).abs().max() < 1e-4
            assert (logits(scored) - logits(adapted)).abs().max() < 1e-4

    tell_apart(check, save, save_with_constant_alpha)


def test_fault_16_a_step_costs_the_same_after_every_task_and_frozen_updates_see_no_dropout(
    tmp_path: Path, tiny_base: Path, new_model: NewModel, lora: Lora
) -> None:
    dropping = lora.model_copy(update={"dropout": 0.5})
    state = get_peft_model_state_dict(learned(new_model(), lora, 1))
    save_adapter(tmp_path, stack(None, state), MODULES, lineage_of(tiny_base, lora), "card")
    earlier = load_adapter(tmp_path, read_base(tiny_base).fingerprint)

    def folded(tasks: int) -> torch.nn.Module:
        model = new_model()
        for _ in range(tasks):
            apply_update(model, earlier)
        return new_lora(model, dropping, MODULES, seed=2)

    def grown(tasks: int) -> torch.nn.Module:
        """All tasks' ranks in one LoRA with dropout on its input (freezing earlier blocks is left out)."""
        model = new_lora(
            new_model(), dropping.model_copy(update={"r": lora.r * (tasks + 1)}), MODULES, seed=2
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_B." in name:
                    parameter[:, : lora.r * tasks].normal_()
        return model

    def flops(model: torch.nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            logits(model)
        return counter.get_total_flops()

    def check_cost(model_after: Callable[[int], torch.nn.Module]) -> None:
        assert flops(model_after(3)) == flops(model_after(0))

    def check_dropout(model_after: Callable[[int], torch.nn.Module]) -> None:
        model = model_after(
            2
        )  # its new B is zero: what changes from pass to pass is dropout on earlier tasks' updates
        assert torch.equal(logits(model.train()), logits(model.eval()))

    tell_apart(check_cost, folded, grown)
    tell_apart(check_dropout, folded, grown)


def test_fault_18_an_adapter_trained_again_replaces_the_old_one(
    tmp_path: Path, tiny_base: Path, new_model: NewModel, lora: Lora
) -> None:
    states = [get_peft_model_state_dict(learned(new_model(), lora, seed)) for seed in (1, 2)]
    places = (tmp_path / f"{number}" for number in itertools.count())

    def save(folder: Path, state: Any) -> None:
        with output_folder(folder) as target:
            save_adapter(target, stack(None, state), MODULES, lineage_of(tiny_base, lora), "card")

    def save_what_is_not_there(folder: Path, state: Any) -> None:
        if not folder.exists():
            save(folder, state)

    def save_silently(folder: Path, state: Any) -> None:
        works(lambda: save(folder, state))

    def check(saving: Callable[[Path, Any], None]) -> None:
        folder = next(places)
        for state in states:
            saving(folder, state)
        read = load_adapter(folder, read_base(tiny_base).fingerprint)
        assert all(
            torch.equal(stack(None, states[1])[f"base_model.model.{n}.lora_A.weight"], a)
            for n, a in read.a.items()
        )
        assert refuses(
            lambda: saving(folder, {name: tensor * float("nan") for name, tensor in states[0].items()})
        )

    tell_apart(check, save, save_what_is_not_there, save_silently)
