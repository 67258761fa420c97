"""What a training reads: exactly the rows that the method names, each under the prompt of its task."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict

from by_hand import TRAIN_ROWS, ByHand, run_by_hand
from sapo.artifacts.lineage import earlier_rows
from sapo.artifacts.run_record import PromptText
from sapo.artifacts.task import TASKS, Example, Task, load_task, save_task
from sapo.config import Lora, Method, Train
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.prompts.prefix import prefix_length
from sapo.runtime.errors import OtherRunError
from sapo.training.loop import Trained, shared_prefix, step_rows
from sapo.training.new_lora import new_lora
from sapo.training.rows import training_rows
from tiny import MODULES, NewModel

Run = Callable[..., Trained]
ORDER = ["one", "two", "three"]
NOW = PromptText(instruction="What now?", suffix="Answer:", language="en")


@pytest.fixture
def learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ByHand:
    """A run over three tasks of ten training rows each; its folder is the working folder."""
    monkeypatch.chdir(tmp_path)
    return run_by_hand(ORDER, [[0.0] * 3] * 4)


def read(run: ByHand, encoder: PromptEncoder, seed: int = 0, **method: Any) -> list[str]:
    """The user's turns of the training after the tasks one and two, in its order of rows."""
    used: Method = run.params.method.model_copy(update=method)
    before = run.lineage.tasks[:2]
    rows = training_rows(encoder, load_task("three"), NOW, before, earlier_rows(used, before), seed)
    assert all(row.answer == rows[0].answer for row in rows)
    return [encoder.tokenizer.decode(row.prompt).split("user\n")[1].split("<|im_end|>")[0] for row in rows]


def turns(task: str, instruction: str, numbers: Sequence[int] = range(TRAIN_ROWS)) -> list[str]:
    return [f"{instruction}\n\nText:\n{task} {number}\n\nAnswer:" for number in numbers]


def test_joint_reads_all_rows_of_all_tasks_each_under_its_prompt(
    learned: ByHand, encoder: PromptEncoder
) -> None:
    own = turns("three", "What now?")
    assert read(learned, encoder) == own
    expected = [*own, *turns("one", "Better one."), *turns("two", "Better two.")]
    assert read(learned, encoder, adapter="joint") == expected


def numbers(found: Sequence[str], task: str) -> list[int]:
    return [int(turn.split(f"\n{task} ")[1].split()[0]) for turn in found if f"\n{task} " in turn]


def test_replay_reads_its_share_of_each_task_the_same_rows_every_time(
    learned: ByHand, encoder: PromptEncoder
) -> None:
    found = read(learned, encoder, replay=0.3)
    one, two = numbers(found, "one"), numbers(found, "two")
    assert found == [
        *turns("three", "What now?"),
        *turns("one", "Better one.", one),
        *turns("two", "Better two.", two),
    ]
    assert len(set(one)) == len(set(two)) == 3
    assert one == sorted(one) != two
    assert read(learned, encoder, replay=0.3) == found
    assert {tuple(numbers(read(learned, encoder, seed, replay=0.3), "one")) for seed in range(9)} > {
        tuple(one)
    }
    assert set(one) < set(numbers(read(learned, encoder, replay=0.5), "one"))
    assert read(learned, encoder, replay=1.0) == read(learned, encoder, adapter="joint")


@pytest.mark.parametrize(
    ("share", "rows", "drawn"), [(0.01, 10, 1), (0.1, 30, 3), (0.07, 100, 7), (0.15, 10, 2), (1, 7, 7)]
)
def test_a_share_is_rounded_up_as_it_is_written(learned: ByHand, share: float, rows: int, drawn: int) -> None:
    learned.with_entry(0, rows=rows)
    method = learned.params.method.model_copy(update={"replay": share})
    [earlier] = earlier_rows(method, learned.lineage.tasks[:1])
    assert earlier.rows == drawn


def test_rows_that_were_not_trained_on_are_refused(learned: ByHand, encoder: PromptEncoder) -> None:
    task = load_task("one")
    save_task(TASKS / "one", Task(**vars(task) | {"train": task.train[1:]}))
    read(learned, encoder)
    with pytest.raises(OtherRunError, match=r"one/train\.jsonl is not the file that the model before was"):
        read(learned, encoder, replay=0.1)


LONG = "Look at the text with great care and think about what its author may have had in mind when writing."


@pytest.fixture
def mixed(encoder: PromptEncoder, examples: list[Example]) -> list[Encoded]:
    """Rows of three tasks: two whose instructions begin alike, one with an early difference."""
    instructions = [f"{LONG} Is it short?", f"{LONG} Is it long?", f"{LONG[:60]} now!"]
    return [
        row
        for number, instruction in enumerate(instructions)
        for row in encoder.encode(instruction, "?", "en", examples[number::3], answers=True)
    ]


def test_rows_of_several_tasks_train_as_in_a_plain_loop_of_stock_peft(
    tmp_path: Path, run: Run, new_model: NewModel, mixed: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    train = train_settings.model_copy(
        update={"batch_size": 12, "learning_rate": 0.002, "schedule": "constant"}
    )
    train = train.model_copy(update={"warmup_ratio": 0.0})
    prefix, said = shared_prefix(mixed, prefix_length(mixed), train, sharded=False)
    own = min(len(row.prompt) for row in mixed)
    assert 10 < prefix < own - 10, said  # some is shared, and not the whole of an instruction
    trained = run(mixed, lora, train, tmp_path)

    model = new_lora(new_model(), lora, MODULES, seed=5)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=train.learning_rate, weight_decay=0.0)
    for step in step_rows(len(mixed), train.epochs, train.batch_size, seed=5):
        tokens = sum(len(mixed[number].answer) for number in step)
        for number in step:
            ids = torch.tensor([mixed[number].prompt + mixed[number].answer])
            labels = ids.clone()
            labels[:, : len(mixed[number].prompt)] = -100
            share = len(mixed[number].answer) / tokens
            (model(input_ids=ids, labels=labels).loss * share).backward()
        torch.nn.utils.clip_grad_norm_(weights, train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    for name, tensor in get_peft_model_state_dict(model).items():
        assert tensor.abs().max() > 1e-3
        torch.testing.assert_close(trained.state[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_dropout_of_rows_of_several_tasks_does_not_depend_on_how_they_run(
    tmp_path: Path, run: Run, mixed: list[Encoded], lora: Lora, train_settings: Train
) -> None:
    dropping = lora.model_copy(update={"dropout": 0.3})
    train = train_settings.model_copy(update={"batch_size": 12, "learning_rate": 0.002, "epochs": 1})
    one = run(mixed, dropping, train, tmp_path / "one")
    other = run(
        mixed,
        dropping,
        train.model_copy(update={"batch_tokens": 300, "gradient_checkpointing": True}),
        tmp_path / "other",
    )
    kept = run(mixed, lora, train, tmp_path / "kept")
    for name, tensor in one.state.items():
        torch.testing.assert_close(other.state[name], tensor, rtol=0, atol=1e-5, msg=name)
    assert any(not torch.allclose(one.state[name], tensor, atol=1e-3) for name, tensor in kept.state.items())
