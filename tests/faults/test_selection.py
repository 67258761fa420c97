"""Faults of the measured candidates, and of the stage that measures them."""

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
import yaml
from transformers import PreTrainedModel

import select_prompt
from faulty import tell_apart
from laboratory import REPOSITORY
from sapo.artifacts.candidates import Candidates
from sapo.artifacts.task import Example, Task, save_task
from sapo.config import Selection
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.selection.measure import measure
from tiny import SUFFIX, NewModel

INSTRUCTION = "Say whether it is short."


def test_fault_08_side_effects_are_the_first_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["method"] |= {"selector": "original", "paraphrases": False}
    params["launch"] = yaml.safe_load((REPOSITORY / "conf/launch/ddp.yaml").read_text())
    for name, value in {
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "::1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    name = params["sequence"]["last"]
    row = [Example("text", "yes")]
    save_task(Path("data/tasks") / name, Task(name, "Judge it.", SUFFIX, [], "en", None, {}, row, row))
    Candidates(task=name, source="none", candidates=["Judge it."], api=None).write()

    def check(is_main: Callable[[], bool]) -> None:
        monkeypatch.setattr(select_prompt, "is_main", is_main)
        written = []
        for rank in range(2):
            monkeypatch.setenv("RANK", str(rank))
            select_prompt.select(name)
            written.append(Path(f"data/prompts/{name}.json").is_file())
            shutil.rmtree("data/prompts", ignore_errors=True)
        assert written == [True, False]

    tell_apart(check, select_prompt.is_main, lambda: True)

    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]

    def check_command(command: str) -> None:
        assert "launch" not in command  # one process asks the language model, however many train

    tell_apart(check_command, stages["paraphrase"]["do"]["cmd"], stages["train"]["do"]["cmd"])


Loss = Callable[[PreTrainedModel, PromptEncoder, Sequence[Example], int], float]


def mean_loss(
    model: PreTrainedModel, encoder: PromptEncoder, examples: Sequence[Example], batch_tokens: int
) -> float:
    """What is measured of the only candidate on these rows."""
    task = Task("t", INSTRUCTION, SUFFIX, [], "en", None, {}, list(examples), [])
    settings = Selection(rows=len(examples), batch_tokens=batch_tokens, search="exhaustive", confidence=0.95)
    _, [candidate] = measure(model, encoder, task, [INSTRUCTION], settings, "exhaustive")
    assert candidate.loss is not None
    return candidate.loss


def test_fault_10_a_loss_is_the_mean_over_all_answer_tokens(
    new_model: NewModel, encoder: PromptEncoder, examples: list[Example], rows: list[Encoded]
) -> None:
    model = new_model()

    def mean_of_batch_means(
        model: PreTrainedModel, encoder: PromptEncoder, examples: Sequence[Example], batch_tokens: int
    ) -> float:
        size = max(1, batch_tokens // 400)
        starts = range(0, len(examples), size)
        return fmean(mean_loss(model, encoder, examples[start : start + size], 500) for start in starts)

    def check(loss: Loss) -> None:
        nats, tokens = 0.0, 0
        for row in rows:
            with torch.no_grad():
                logs = model(input_ids=torch.tensor([row.prompt + row.answer])).logits[0].log_softmax(-1)
            nats -= sum(
                float(logs[len(row.prompt) - 1 + place, token]) for place, token in enumerate(row.answer)
            )
            tokens += len(row.answer)
        orders = (examples, examples[::-1], examples[::2] + examples[1::2])
        for order, batch_tokens in itertools.product(orders, (400, 2000, 100_000)):
            assert loss(model, encoder, order, batch_tokens) == pytest.approx(nats / tokens, abs=1e-5)

    tell_apart(check, mean_loss, mean_of_batch_means)


def test_fault_11_only_answer_positions_reach_the_output_layer(
    new_model: NewModel, encoder: PromptEncoder, examples: list[Example], rows: list[Encoded]
) -> None:
    def full_logits(model: PreTrainedModel, *_: Any) -> float:
        for row in rows:
            model(input_ids=torch.tensor([row.prompt + row.answer]))
        return 0.0

    def check(loss: Loss) -> None:
        model, positions = new_model(), []
        model.get_output_embeddings().register_forward_pre_hook(
            lambda _, inputs: positions.append(inputs[0][..., 0].numel())
        )
        loss(model, encoder, examples, 100_000)
        assert positions
        assert sum(positions) <= 1 + len(rows) * max(len(row.answer) for row in rows)  # 1: the shared prefix

    tell_apart(check, mean_loss, full_logits)
