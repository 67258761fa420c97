"""Greedy answers are those of `generate`, row by row, for less work."""

from collections.abc import Callable
from itertools import pairwise

import torch
from transformers import GenerationConfig, PreTrainedModel

from sapo.answers.greedy import generate
from sapo.artifacts.task import Example
from sapo.prompts.encoder import PromptEncoder


def test_fault_07_answers_equal_those_of_generate_one_row_at_a_time(
    new_model: Callable[[], PreTrainedModel], encoder: PromptEncoder, examples: list[Example]
) -> None:
    model = new_model()
    rows = encoder.encode("Say whether it is short.", "Answer yes or no.", "en", examples, answers=False)
    # A stop token that a random model does choose, so that rows finish at different times.
    first = [int(model(input_ids=torch.tensor([row.prompt])).logits[0, -1].argmax()) for row in rows]
    free = generate(model, rows, {-1}, 0, 10, 700, "")
    stop = {free[0][4], free[5][2]}
    config = GenerationConfig(max_new_tokens=10, do_sample=False, eos_token_id=sorted(stop), pad_token_id=0)
    expected = []
    for row in rows:
        ids = torch.tensor([row.prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)[
            0, len(row.prompt) :
        ].tolist()
        expected.append(out[:-1] if out[-1] in stop else out)
    lengths = {len(answer) for answer in expected}
    assert len(lengths) > 1  # some rows were dropped early, or the test shows nothing
    read: list[int] = []  # rows of each prompt pass
    model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: read.append(len(inputs[0])))
    for batch_tokens in (1, 700, 2_000, 100_000):
        assert generate(model, rows, stop, 0, 10, batch_tokens, "") == expected
    read.clear()
    assert generate(model, rows, stop, 0, 10, 2_000, "") == expected
    assert any(
        later > first for first, later in pairwise(read[1:])
    )  # read in several batches, answered together
    assert [answer[0] for answer in free] == first


def test_fault_06_a_batch_costs_one_prefix_and_one_pass_a_token(
    new_model: Callable[[], PreTrainedModel], encoder: PromptEncoder, examples: list[Example]
) -> None:
    model = new_model()
    rows = encoder.encode("Say whether it is short.", "Answer yes or no.", "en", examples, answers=False)
    shapes: list[tuple[int, ...]] = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: shapes.append(tuple(inputs[0].shape))
    )
    generate(model, rows, {-1}, 0, 6, 100_000, "")
    assert [shape[0] for shape in shapes] == [1, *[len(rows)] * 6]
    assert all(shape[1] == 1 for shape in shapes[2:])
