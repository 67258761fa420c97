import random
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from sapo.files import DataError
from sapo.prefix import answer_logits, make_batch, prefix_length, run_prefix
from sapo.prompts import Encoded, PromptEncoder
from sapo.scoring import prompt_loss
from sapo.tasks import Example


def plain_loss(model: PreTrainedModel, rows: list[Encoded]) -> float:
    """The same mean by the shortest road: one row at a time, every position, no cache, no padding."""
    total, tokens = 0.0, 0
    for row in rows:
        ids = torch.tensor([row.prompt + row.answer])
        with torch.no_grad():
            logs = model(input_ids=ids).logits[0].double().log_softmax(-1)
        for offset, token in enumerate(row.answer):
            total -= logs[len(row.prompt) + offset - 1, token].item()
        tokens += len(row.answer)
    return total / tokens


@pytest.fixture
def rows(encoder: PromptEncoder, examples: list[Example]) -> list[Encoded]:
    return encoder.encode("Say whether it is short.", "Answer yes or no.", "en", examples, answers=True)


def test_fault_10_the_loss_is_exact_for_every_batch_size_and_order(
    new_model: Callable[[], PreTrainedModel], rows: list[Encoded]
) -> None:
    model = new_model()
    expected = plain_loss(model, rows)
    shuffled = random.Random(3).sample(rows, len(rows))
    for order in (rows, shuffled, rows[::-1]):
        for batch_size in (1, 7, 64):
            assert prompt_loss(model, order, 0, batch_size) == pytest.approx(expected, abs=1e-5)


def test_fault_09_every_row_counts(new_model: Callable[[], PreTrainedModel], rows: list[Encoded]) -> None:
    model = new_model()
    assert prompt_loss(model, rows[:11], 0, 4) == pytest.approx(plain_loss(model, rows[:11]), abs=1e-5)
    assert abs(plain_loss(model, rows[:11]) - plain_loss(model, rows[:8])) > 1e-4


def test_fault_03_another_wording_is_scored_as_another_text(
    new_model: Callable[[], PreTrainedModel], encoder: PromptEncoder, examples: list[Example]
) -> None:
    model = new_model()
    losses = {
        prompt_loss(model, encoder.encode(text, "Answer.", "en", examples, answers=True), 0, 8)
        for text in ("Judge it {x}.", "Judge it {{x}}.", "Judge it.")
    }
    assert len(losses) == 3


def test_a_loss_that_is_not_finite_is_an_error(new_model: Callable[[], PreTrainedModel], rows: list[Encoded]) -> None:
    model = new_model()
    torch.nn.init.constant_(model.get_input_embeddings().weight, float("nan"))
    with pytest.raises(DataError, match="loss is nan"):
        prompt_loss(model, rows, 0, 8)
    with pytest.raises(DataError, match="at least one row"):
        prompt_loss(model, [], 0, 8)


def test_the_prefix_is_shared_and_leaves_a_prompt_token_to_each_row(rows: list[Encoded]) -> None:
    prefix = prefix_length(rows)
    assert all(row.prompt[:prefix] == rows[0].prompt[:prefix] for row in rows)
    assert len({row.prompt[prefix] for row in rows}) > 1
    same = [Encoded([1, 2, 3], [4]), Encoded([1, 2, 3], [5])]
    assert prefix_length(same) == 2


def test_one_prefix_serves_many_batches_and_stays_as_it_is(new_model: Callable[[], PreTrainedModel], rows: list[Encoded]) -> None:
    model = new_model()
    batch = make_batch(rows, prefix_length(rows), 0)
    with torch.no_grad():
        cache = run_prefix(model, batch.prefix_ids)
        first, second = answer_logits(model, batch, cache), answer_logits(model, batch, cache)
    assert cache.get_seq_length() == prefix_length(rows)
    assert torch.equal(first, second)


def test_the_gradient_through_the_shared_prefix_is_the_plain_one(
    new_model: Callable[[], PreTrainedModel], rows: list[Encoded]
) -> None:
    shared, plain = new_model(), new_model()
    batch = make_batch(rows[:4], prefix_length(rows[:4]), 0)
    logits = answer_logits(shared, batch, run_prefix(shared, batch.prefix_ids))
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="sum").backward()
    for row in rows[:4]:
        ids = torch.tensor([row.prompt + row.answer])
        labels = torch.tensor([[-100] * len(row.prompt) + row.answer])
        (plain(input_ids=ids, labels=labels).loss * len(row.answer)).backward()
    for (name, mine), theirs in zip(shared.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5), name


def test_fault_11_logits_are_computed_at_answer_positions_only(
    new_model: Callable[[], PreTrainedModel], rows: list[Encoded]
) -> None:
    model = new_model()
    positions: list[int] = []
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: positions.append(inputs[0][..., 0].numel()))
    longest = max(len(row.answer) for row in rows)
    prompt_loss(model, rows, 0, 64)
    assert positions == [1, len(rows) * (longest + 1)]  # the prefix once, then the answers of one batch
