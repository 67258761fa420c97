"""Log-likelihoods of right answers against a plain forward pass over whole single rows."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from sapo.answers.greedy import answer, generate
from sapo.artifacts.task import Example
from sapo.prompts.batches import ANSWER_POSITIONS
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.runtime.errors import DataError


def plain(model: PreTrainedModel, row: Encoded) -> float:
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([row.prompt + row.answer])).logits[0].double().log_softmax(-1)
    places = enumerate(row.answer, start=len(row.prompt) - 1)
    return math.fsum(logs[place, token].item() for place, token in places) / len(row.answer)


@pytest.fixture(scope="module")
def asked(encoder: PromptEncoder, examples: list[Example]) -> list[Encoded]:
    """Rows with right answers of many lengths: nothing, one of several, one longer than an answer may be."""
    others = [replace(one, label="") for one in examples[:2]]
    others += [replace(examples[2], others=("maybe", "no")), replace(examples[3], label="long " * 9)]
    return encoder.encode("Say whether it is short.", "Answer.", "en", [*others, *examples[4:]], answers=True)


def test_log_likelihoods_are_those_of_a_plain_pass_for_every_batch_and_cost_no_answer(
    new_model: Callable[[], PreTrainedModel], asked: list[Encoded], encoder: PromptEncoder
) -> None:
    model, end = new_model(), encoder.end_of_turn
    assert asked[0].answer == [end]
    assert len(asked[3].answer) > 4
    expected = [plain(model, row) for row in asked]
    alone = generate(model, asked, {-1}, end, 4, 700, "")
    assert {len(one) for one in alone} == {4}
    for batch_tokens in (1, 700, 2_000, 100_000):
        found, likelihoods = answer(model, asked, {-1}, end, 4, batch_tokens, "")
        assert found == alone
        assert likelihoods == pytest.approx(expected, abs=1e-5)
    unlike = [Encoded([5 + n, *row.prompt], row.answer) for n, row in enumerate(asked)]  # nothing to share
    expected = [plain(model, row) for row in unlike]
    assert answer(model, unlike, {-1}, end, 1, 700, "")[1] == pytest.approx(expected, abs=1e-5)


def test_a_right_answer_is_read_with_its_prompt_and_nothing_runs_for_it_alone(
    new_model: Callable[[], PreTrainedModel], asked: list[Encoded]
) -> None:
    model = new_model()
    shapes: list[tuple[int, ...]] = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: shapes.append(tuple(inputs[0].shape))
    )
    answer(model, asked, {-1}, 0, 6, 100_000, "")
    assert [shape[0] for shape in shapes] == [1, *[len(asked)] * 6]
    assert all(shape[1] == 1 for shape in shapes[2:])


def test_logits_and_tokens_are_bounded_where_right_answers_are_long(
    new_model: Callable[[], PreTrainedModel], asked: list[Encoded]
) -> None:
    model = new_model()
    long = [Encoded(row.prompt, row.answer * (300 // len(row.answer))) for row in asked]
    positions: list[int] = []
    tokens: list[int] = []
    model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: positions.append(inputs[0][..., 0].numel())
    )
    model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0].numel()))
    expected = [plain(model, row) for row in long]
    positions.clear()
    tokens.clear()
    assert answer(model, long, {-1}, 0, 2, 1_200, "")[1] == pytest.approx(expected, abs=1e-5)
    assert 300 < max(positions) <= ANSWER_POSITIONS
    assert max(tokens) <= 1_200


def test_a_prompt_with_a_right_answer_beyond_the_models_context_is_refused_before_any_work(
    new_model: Callable[[], PreTrainedModel], asked: list[Encoded]
) -> None:
    model = new_model()
    model.config.max_position_embeddings = max(len(row.prompt) for row in asked) + 20
    answer(model, asked, {-1}, 0, 20, 700, "")
    calls: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda *_: calls.append(1))
    long = [*asked[1:], Encoded(asked[0].prompt, [5] * model.config.max_position_embeddings)]
    with pytest.raises(DataError, match=r"prompt and answer need .* shorten the task's longest answers"):
        answer(model, long, {-1}, 0, 20, 700, "")
    assert not calls
