"""Records tell apart whatever gives other results, and call the same what does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from by_hand import settings, write_tasks
from sapo.answers.greedy import generate
from sapo.artifacts.run_record import (
    EFFORT,
    EarlierRows,
    PromptText,
    answers_record,
    selection_record,
    training_record,
)
from sapo.artifacts.schema import Part
from sapo.artifacts.task import Example, Task
from sapo.config import Evaluate, Lora, Params, Selection, Train
from sapo.models.load import load_model
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.selection.measure import measure
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora
from tiny import MODULES, NewModel, new_a

TASK = "t"
PROMPT = PromptText(instruction="Say whether it is short.", suffix="Answer yes or no.", language="en")
Change = dict[str, Any]  # dotted name of a setting -> another value
STEPS = {"train.warmup_steps": 2}
WEIGHT = {"method.orthogonal_weight": 0.5}


def altered(params: Params, change: Change) -> Params:
    content = params.model_dump()
    for name, value in change.items():
        section, field = name.split(".")
        content[section][field] = value
    return Params.model_validate(content)


@pytest.fixture
def params(tmp_path: Path, train_settings: Train, lora: Lora, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Settings of a small training, in a folder with the task's files."""
    monkeypatch.chdir(tmp_path)
    write_tasks([TASK])
    return settings([TASK]).model_copy(update={"train": train_settings, "lora": lora})


# What is changed, beside what, and whether the record must tell of it
TRAININGS: list[tuple[Change, Change, bool]] = [
    ({"train.batch_tokens": 1}, {}, False),
    ({"train.batch_tokens": 100_000}, {}, False),
    ({"train.gradient_checkpointing": True}, {}, False),
    ({"train.checkpoints": 1}, {}, False),
    ({"train.epochs": 3}, {}, True),
    ({"train.batch_size": 3}, {}, True),
    ({"train.learning_rate": 0.01}, {}, True),
    ({"train.schedule": "linear"}, {}, True),
    ({"train.schedule": "deepspeed_warmup"}, {}, True),
    ({"train.warmup_ratio": 0.5}, {}, True),
    ({"train.warmup_ratio": 0.5}, STEPS, False),
    ({"train.warmup_steps": 3}, {}, True),
    ({"train.warmup_steps": 3}, STEPS, True),
    ({"train.max_grad_norm": 0.01}, {}, True),
    ({"train.dtype": "float32"}, {}, False),
    ({"train.dtype": "bfloat16"}, {}, True),
    ({"train.dtype": "float32"}, {"model.dtype": "bfloat16"}, True),
    ({"train.orthogonal_repeats": 8}, {}, False),
    ({"train.orthogonal_repeats": 8}, WEIGHT, True),
    ({"train.orthogonal_repeats": 8}, {"method.orthogonal_weight": 0.0}, False),
    ({"lora.dropout": 0.3}, {}, True),
    ({"lora.r": 2}, {}, True),
    ({"lora.alpha": 6}, {}, True),
]


def test_every_setting_of_training_is_among_those_tried() -> None:
    tried = {name for change, _, _ in TRAININGS for name in change}
    assert {f"train.{name}" for name in Train.model_fields} <= tried


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(("change", "beside", "told"), TRAININGS, ids=str)
def test_a_training_with_another_result_has_another_record(
    tmp_path: Path,
    tiny_base: Path,
    rows: list[Encoded],
    params: Params,
    change: Change,
    beside: Change,
    told: bool,
    dropout: float,
) -> None:
    def trained(name: str, used: Params) -> tuple[dict[str, torch.Tensor], Part]:
        def model() -> PeftModel:
            base = load_model(tiny_base, used.train.dtype or used.model.dtype)
            return new_lora(base, used.lora, MODULES, seed=5)

        earlier = new_a(new_lora(load_model(tiny_base, "float32"), params.lora, MODULES, seed=9))
        done = train_task(
            model(),
            rows,
            train=used.train,
            seed=5,
            pad=0,
            checkpoints=tmp_path / name,
            earlier_a=earlier,
            orthogonal_weight=used.orthogonal_weight,
        )
        return done.state, training_record(
            used, "f1", None, TASK, PROMPT, selector="original", template="7" * 64, device="cpu"
        )

    start = altered(params, {"lora.dropout": dropout} | beside)
    (one, record), (other, another) = trained("one", start), trained("other", altered(start, change))
    same = all(
        tensor.shape == other[name].shape and torch.allclose(tensor, other[name], rtol=0, atol=1e-5)
        for name, tensor in one.items()
    )
    assert same or record != another, "two different trainings have one record"
    assert (record != another) == told


@pytest.fixture
def task(examples: list[Example]) -> Task:
    return Task(TASK, PROMPT.instruction, PROMPT.suffix, [], "en", None, {}, examples, examples)


def left_out(section: type[Selection] | type[Evaluate]) -> set[str]:
    return set(section.model_fields) & EFFORT


@pytest.mark.parametrize("tokens", [1, 300, 100_000])
def test_what_the_records_of_losses_and_answers_leave_out_changes_neither(
    new_model: NewModel, encoder: PromptEncoder, task: Task, params: Params, tokens: int
) -> None:
    assert left_out(Selection) == left_out(Evaluate) == {"batch_tokens"}
    model, texts = new_model(), [PROMPT.instruction, "Long, or short?"]
    asked = encoder.encode(*texts[:1], PROMPT.suffix, "en", task.test, answers=False)

    def losses(used: Params) -> list[float]:
        found = measure(model, encoder, task, texts, used.selection, "exhaustive")[1]
        return [candidate.loss for candidate in found if candidate.loss is not None]

    def answers(used: Params) -> list[list[int]]:
        return generate(model, asked, {2}, 0, 5, used.evaluate.batch_tokens, "")

    def record(kind: Callable[..., Part], used: Params, about: Any) -> Part:
        return kind(used, "f1", None, about, "7" * 64, "cpu")

    other = altered(params, {"selection.batch_tokens": tokens, "evaluate.batch_tokens": tokens})
    assert losses(other) == pytest.approx(losses(params), abs=1e-5)
    assert answers(other) == answers(params)
    for kind, about in ((selection_record, TASK), (answers_record, {TASK: PROMPT})):
        assert record(kind, other, about) == record(kind, params, about)
    for name in ("selection.rows", "evaluate.max_new_tokens", "prompt.max_tokens"):
        changed = altered(params, {name: 77})
        kinds = ((selection_record, TASK), (answers_record, {TASK: PROMPT}))
        told = [record(kind, changed, about) != record(kind, params, about) for kind, about in kinds]
        assert told == [not name.startswith("evaluate"), not name.startswith("selection")]


def test_an_orthogonal_weight_is_recorded_as_it_counts_in_a_step(params: Params) -> None:
    used = altered(params, WEIGHT | {"train.orthogonal_repeats": 8})
    record = training_record(
        used, "f1", None, TASK, PROMPT, selector="original", template="7" * 64, device="cpu"
    )
    assert record.settings.orthogonal_weight == used.orthogonal_weight == 4.0


def test_trainings_of_another_kind_or_on_other_rows_have_another_record(params: Params) -> None:
    def record(change: Change, earlier: list[EarlierRows]) -> Part:
        return training_record(
            altered(params, change),
            "f1",
            None,
            TASK,
            PROMPT,
            earlier=earlier,
            selector="original",
            template="7" * 64,
            device="cpu",
        )

    one = EarlierRows(task="one", rows=2, train="1" * 64, prompt="2" * 64)
    changes = [{"rows": 3}, {"train": "3" * 64}, {"prompt": "3" * 64}, {"task": "two"}]
    records = [
        *(record({"method.adapter": kind}, []) for kind in ("stacked", "joint", "single")),
        record({"method.replay": 0.1}, []),
        record({"method.replay": 0.1}, [one]),
        *(record({"method.replay": 0.1}, [one.model_copy(update=change)]) for change in changes),
    ]
    assert all(a != b for number, a in enumerate(records) for b in records[:number])
