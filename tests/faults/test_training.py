"""Faults of training."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.overrides import TorchFunctionMode

from faulty import tell_apart, works
from sapo.analysis.answer_metrics import row_scores
from sapo.artifacts.task import Task
from sapo.config import Lora, Selection, Train
from sapo.data.folder import load_folder_tasks
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.runtime.outputs import output_folder
from sapo.selection.measure import measure
from sapo.training import loop
from sapo.training.new_lora import new_lora, orthogonal_penalty
from tiny import MODULES, NewModel, new_a, write_tasks


def test_fault_14_the_penalty_looks_at_each_adapted_module_once(
    new_model: NewModel, lora: Lora, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_lora(new_model(), lora, MODULES, seed=1)
    earlier = new_a(model)
    named_parameters, visited = torch.nn.Module.named_parameters, []

    def all_pairs(model: PeftModel, earlier: dict[str, torch.Tensor]) -> torch.Tensor:
        total = torch.zeros(())
        for name, _ in model.named_parameters():
            for other, new in model.named_parameters():
                module = other.removeprefix("base_model.model.").removesuffix(".lora_A.default.weight")
                if name == other and module in earlier:
                    total = total + (earlier[module] @ new.T).abs().sum()
        return total

    class Products(TorchFunctionMode):
        count = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += func in (torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul)
            return func(*args, **(kwargs or {}))

    def counted(self: torch.nn.Module, *options: Any, **named: Any) -> Iterator[Any]:
        for pair in named_parameters(self, *options, **named):
            visited.append(pair[0])
            yield pair

    def check(penalty: Callable[[PeftModel, Any], torch.Tensor]) -> None:
        visited.clear()
        with monkeypatch.context() as patch, Products() as products:
            patch.setattr(torch.nn.Module, "named_parameters", counted)
            value = penalty(model, earlier).detach()
        assert float(value) == pytest.approx(
            sum(float((a @ a.T).abs().sum()) for a in earlier.values()), rel=1e-5
        )
        assert products.count == len(earlier) == 4
        assert len(visited) <= len(list(model.parameters()))

    tell_apart(check, orthogonal_penalty, all_pairs)


def test_fault_15_accumulation_changes_nothing_and_a_weight_of_zero_costs_nothing(
    tmp_path: Path,
    new_model: NewModel,
    rows: list[Encoded],
    lora: Lora,
    train_settings: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a = new_a(new_lora(new_model(), lora, MODULES, seed=9))
    batches, numbers = loop.my_batches, itertools.count()
    calls, dealt = [], [1]

    def counted_batches(*arguments: Any) -> Any:
        found = batches(*arguments)
        dealt[0] = len(found)
        return found

    def once_a_step(model: PeftModel, earlier: Any) -> torch.Tensor:
        calls.append(1)
        return orthogonal_penalty(model, earlier)

    def once_a_batch(model: PeftModel, earlier: Any) -> torch.Tensor:
        return dealt[0] * once_a_step(model, earlier)

    class AlsoAtZero(loop.Orthogonal):
        def __init__(self, model: PeftModel, earlier_a: Any, weight: float) -> None:
            super().__init__(model, earlier_a, weight)
            self.earlier_a = earlier_a

    def loss(batch_tokens: int, weight: float) -> float:
        settings = train_settings.model_copy(
            update={"batch_size": 12, "epochs": 1, "batch_tokens": batch_tokens}
        )
        adapted = new_lora(new_model(), lora, MODULES, seed=5)
        options: Any = {"train": settings, "seed": 5, "pad": 0, "checkpoints": tmp_path / f"{next(numbers)}"}
        trained = loop.train_task(adapted, rows, earlier_a=a, orthogonal_weight=weight, **options)
        return trained.history[0].loss

    def check(term: Any) -> None:
        monkeypatch.setattr(loop, "orthogonal_penalty", term)
        monkeypatch.setattr(loop, "my_batches", counted_batches)
        assert loss(300, 0.5) == pytest.approx(loss(100_000, 0.5), rel=1e-4)

    def check_at_zero(term: Any) -> None:
        monkeypatch.setattr(loop, "orthogonal_penalty", once_a_step)
        monkeypatch.setattr(loop, "Orthogonal", term)
        calls.clear()
        loss(100_000, 0.0)
        assert not calls

    tell_apart(check, once_a_step, once_a_batch)
    tell_apart(check_at_zero, loop.Orthogonal, AlsoAtZero)


def test_fault_20_one_row_and_an_empty_dev_file_are_enough(
    tmp_path: Path, new_model: NewModel, encoder: PromptEncoder, lora: Lora, train_settings: Train
) -> None:
    write_tasks(tmp_path / "tasks")

    def work() -> Task:
        [task] = load_folder_tasks(["t"], str(tmp_path / "tasks"), (10, 10))
        rows = encoder.encode(task.instruction, task.suffix, "en", task.train, answers=True)
        settings = Selection(rows=8, batch_tokens=400, search="exhaustive", confidence=0.95)
        measure(new_model(), encoder, task, [task.instruction], settings, "exhaustive")
        adapted = new_lora(new_model(), lora, MODULES, seed=5)
        with output_folder(tmp_path / "checkpoints") as folder:
            loop.train_task(adapted, rows, train=train_settings, seed=5, pad=0, checkpoints=folder)
        row_scores(["yes"], [example.label for example in task.test], [-1.0], task.name)
        return task

    def work_and_show_rows() -> None:
        task = work()
        print(task.train[0], task.train[1])

    def work_with_dev() -> None:
        work()
        print(json.loads((tmp_path / "tasks/t/dev.json").read_text())[0])

    def check(working: Callable[[], Any]) -> None:
        assert works(working)

    tell_apart(check, work, work_and_show_rows, work_with_dev)
