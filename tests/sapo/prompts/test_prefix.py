"""Shared prefixes and padded batches against the plainest way: whole single rows, no cache, no padding."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from transformers import PreTrainedModel

from laboratory import REPOSITORY
from sapo.config import Model
from sapo.models.load import load_model
from sapo.models.make import make_base
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import (
    answer_logits,
    answer_losses,
    backward_through,
    detached,
    make_batch,
    prefix_length,
    run_prefix,
)


def plain_losses(model: PreTrainedModel, rows: list[Encoded]) -> list[torch.Tensor]:
    """Each row's summed loss: the whole row through the model, the positions before each answer token."""
    losses = []
    for row in rows:
        ids = torch.tensor([row.prompt + row.answer])
        logs = model(input_ids=ids).logits[0].log_softmax(-1)
        places = [(len(row.prompt) + offset - 1, token) for offset, token in enumerate(row.answer)]
        losses.append(-sum((logs[place, token] for place, token in places), torch.zeros(())))
    return losses


def fast_losses(model: PreTrainedModel, rows: list[Encoded], prefix: int, pad: int) -> torch.Tensor:
    shared = run_prefix(model, rows[0].prompt[:prefix])
    batch = make_batch(rows, prefix, pad)
    return answer_losses(answer_logits(model, batch, shared), batch.labels)


def with_common_start(own: list[int], answers: list[int], start: int = 9) -> list[Encoded]:
    """Rows that share `start` tokens, with these numbers of tokens of their own."""
    draw = torch.Generator().manual_seed(1)

    def tokens(count: int) -> list[int]:
        return torch.randint(3, 250, (count,), generator=draw).tolist()

    common = tokens(start)
    return [
        Encoded([*common, index + 3, *tokens(more)], tokens(length))
        for index, (more, length) in enumerate(zip(own, answers, strict=True))
    ]


CASES = {
    "one row": with_common_start([5], [3]),
    "equal lengths": with_common_start([6, 6, 6], [2, 2, 2]),
    "very different lengths": with_common_start([1, 120, 17, 60], [1, 2, 30, 4]),
    "nothing in common": with_common_start([4, 9], [2, 3], start=0),
    "a row without an answer": with_common_start([4, 9, 2], [2, 0, 1]),
    "no answers at all": with_common_start([4, 9], [0, 0]),
}


@pytest.mark.parametrize("pad", [0, 2])
@pytest.mark.parametrize("name", CASES)
def test_losses_equal_those_of_whole_single_rows_for_every_prefix(
    new_model: Callable[[], PreTrainedModel], name: str, pad: int
) -> None:
    model, rows = new_model(), CASES[name]
    with torch.no_grad():
        expected = plain_losses(model, rows)
        for prefix in {0, 1, prefix_length(rows) // 2, prefix_length(rows)}:
            if prefix <= prefix_length(rows):
                found = fast_losses(model, rows, prefix, pad)
                torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=1e-5)


def test_losses_of_the_default_model_equal_those_of_whole_single_rows(tmp_path: Path) -> None:
    make_base(
        Model.model_validate(yaml.safe_load((REPOSITORY / "conf/model/smollm2_135m.yaml").read_text())),
        tmp_path,
        seed=0,
    )
    model, rows = load_model(tmp_path, "float32"), with_common_start([3, 40, 11], [1, 2, 9], start=30)
    with torch.no_grad():
        expected = torch.stack(plain_losses(model, rows))
        for prefix in (0, prefix_length(rows)):
            torch.testing.assert_close(fast_losses(model, rows, prefix, 2), expected, atol=1e-3, rtol=1e-5)


def test_gradients_collected_from_batches_behind_one_prefix_are_the_plain_ones(
    new_model: Callable[[], PreTrainedModel],
) -> None:
    rows = with_common_start([1, 20, 7, 60], [1, 2, 5, 3])
    fast, plain = new_model(), new_model()
    shared = run_prefix(fast, rows[0].prompt[:9])
    assert shared
    leaves = detached(shared)
    for part in (rows[:1], rows[1:3], rows[3:]):
        batch = make_batch(part, 9, 0)
        answer_losses(answer_logits(fast, batch, leaves), batch.labels).sum().backward()
    backward_through(shared, leaves)
    torch.stack(plain_losses(plain, rows)).sum().backward()
    for (name, mine), theirs in zip(fast.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_the_prefix_is_shared_and_leaves_a_prompt_token_to_each_row(rows: list[Encoded]) -> None:
    prefix = prefix_length(rows)
    assert all(row.prompt[:prefix] == rows[0].prompt[:prefix] for row in rows)
    assert len({row.prompt[prefix] for row in rows}) > 1
    same = [Encoded([1, 2, 3], [4]), Encoded([1, 2, 3], [5])]
    assert prefix_length(same) == 2


def test_one_prefix_serves_many_batches_and_stays_as_it_is(
    new_model: Callable[[], PreTrainedModel], rows: list[Encoded]
) -> None:
    model = new_model()
    prefix = prefix_length(rows)
    batch = make_batch(rows, prefix, 0)
    with torch.no_grad():
        shared = run_prefix(model, rows[0].prompt[:prefix])
        first, second = answer_logits(model, batch, shared), answer_logits(model, batch, shared)
    assert shared
    assert all(tensor.shape[2] == prefix for pair in shared for tensor in pair)
    assert torch.equal(first, second)
