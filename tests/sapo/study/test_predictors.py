"""What may tell beforehand which wording is best: each predictor against a plain computation of it."""

import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from laboratory import STUDIED, study_settings
from sapo.artifacts.task import load_task
from sapo.config import load_params
from sapo.lora.current import current_adapter, current_model
from sapo.prompts.encoder import Encoded
from sapo.settings.study import Pair
from sapo.study.predictors import (
    CHECKPOINTS,
    PREDICTORS,
    Bench,
    gradient_norm,
    interference,
    length,
    look_ahead,
    loss,
    perplexity,
)
from sapo.study.state import State


@pytest.fixture
def bench(studied: Path) -> Bench:
    return Bench(State(load_params(), Pair(**STUDIED)))


def mean_loss(model: torch.nn.Module, rows: list[Encoded]) -> torch.Tensor:
    """The mean loss of the rows' answers, row by row, nothing shared: stock transformers."""
    total, tokens = torch.zeros(()), 0
    for row in rows:
        ids = torch.tensor([[*row.prompt, *row.answer]])
        logits = model(input_ids=ids).logits[0, len(row.prompt) - 1 : -1]
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(row.answer), reduction="sum")
        tokens += len(row.answer)
    return total / tokens


def plain_gradient(rows: list[Encoded]) -> torch.Tensor:
    """Of the mean loss in the weights of stock PEFT's new LoRA with the run's seed."""
    params = load_params()
    model = current_model(params, current_adapter([STUDIED["after"]]))
    torch.manual_seed(params.seed + 1)
    settings = LoraConfig(
        r=params.lora.r,
        lora_alpha=params.lora.alpha,
        target_modules=params.model.target_modules,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, settings)
    mean_loss(adapted, rows).backward()
    return torch.cat([one.grad.flatten() for one in adapted.parameters() if one.requires_grad])


def test_the_loss_is_that_of_a_plain_pass(bench: Bench) -> None:
    for text in bench.state.texts[:2]:
        expected = float(mean_loss(bench.state.model, bench.task_rows(text)))
        assert loss(bench, text) == pytest.approx(expected, abs=1e-5)


def test_length_counts_the_wording_s_tokens(bench: Bench) -> None:
    tokenizer = bench.state.encoder.tokenizer
    for text in bench.state.texts:
        assert length(bench, text) == len(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_perplexity_is_of_the_wording_after_the_template_s_beginning(bench: Bench) -> None:
    text = bench.state.texts[1]
    row = bench.state.encoder.begin(text)
    tokenizer = bench.state.encoder.tokenizer
    assert tokenizer.decode([*row.prompt, *row.answer]).endswith(text)
    assert tokenizer.decode(row.answer) == text
    with torch.no_grad():
        assert perplexity(bench, text) == pytest.approx(
            math.exp(mean_loss(bench.state.model, [row])), rel=1e-4
        )


def test_the_gradient_norm_is_that_of_stock_peft(bench: Bench) -> None:
    for text in bench.state.texts[:2]:
        expected = float(plain_gradient(bench.task_rows(text)).norm())
        assert gradient_norm(bench, text) == pytest.approx(expected, rel=1e-3)


def test_interference_is_the_cosine_of_two_plain_gradients(bench: Bench) -> None:
    text = bench.state.texts[2]
    [earlier] = bench.earlier_rows
    cosine = torch.nn.functional.cosine_similarity(
        plain_gradient(bench.task_rows(text)), plain_gradient(earlier), dim=0
    )
    assert interference(bench, text) == pytest.approx(-float(cosine), abs=1e-3)


def test_a_task_like_the_earlier_ones_does_not_interfere(bench: Bench) -> None:
    [earlier] = bench.earlier_rows
    gradient = bench.gradient(earlier)
    assert torch.allclose(gradient, bench.earlier_gradient)


def test_looking_ahead_measures_the_earlier_tasks_after_a_short_training(bench: Bench) -> None:
    state, text = bench.state, bench.state.texts[1]
    steps = {"epochs": 1, "schedule": "constant", "warmup_steps": 0}
    rows = state.rows(text)[: state.params.train.batch_size]
    [earlier] = bench.earlier_rows
    with state.lora(state.params.seed) as model:
        state.train(model, rows, state.params.seed, Path("checkpoints"), **steps)
        with torch.no_grad():
            expected = float(mean_loss(model, earlier))
    found = look_ahead(bench, text)
    assert found == pytest.approx(expected, abs=1e-4)
    assert found != pytest.approx(bench.loss(earlier), abs=1e-4)
    assert not CHECKPOINTS.exists()


def test_earlier_tasks_are_read_under_the_prompt_they_were_trained_with(bench: Bench) -> None:
    task = load_task(STUDIED["after"])
    asked = bench.state.lineage.asked()[task.name]
    [rows] = bench.earlier_rows
    texts = [bench.state.encoder.tokenizer.decode(row.prompt) for row in rows]
    assert len(texts) == min(load_params().selection.rows, len(task.train))
    assert all(asked.instruction in text for text in texts)


def test_costs_are_passes_of_rows_and_predictors_that_keep_data_say_so(bench: Bench) -> None:
    rows, earlier = len(bench.task_rows("x")), sum(map(len, bench.earlier_rows))
    trained = min(load_params().train.batch_size, len(bench.state.task.train))
    found = {name: predictor.about(bench) for name, predictor in PREDICTORS.items()}
    assert {name: about.passes for name, about in found.items()} == {
        "loss": rows,
        "length": 0,
        "perplexity": 1,
        "gradient_norm": 3 * rows,
        "interference": round(3 * (rows + earlier / 5), 2),
        "look_ahead": 3 * trained + earlier,
    }
    assert {name for name, about in found.items() if about.keeps_data} == {"interference", "look_ahead"}


def test_without_dropout_a_gradient_is_the_same_every_time(bench: Bench) -> None:
    rows = bench.task_rows(bench.state.texts[0])
    plain = bench.gradient(rows)
    lora = bench.state.params.lora.model_copy(update={"dropout": 0.5})
    bench.state.params = bench.state.params.model_copy(update={"lora": lora})
    assert torch.equal(bench.gradient(rows), plain)


def test_as_many_rows_as_the_selection_reads(studied: Path) -> None:
    study_settings(train_rows=2)
    bench = Bench(State(load_params(), Pair(**STUDIED)))
    assert len(bench.task_rows(bench.state.texts[0])) == 2
