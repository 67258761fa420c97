"""Losses, gradients and greedy answers of many architectures against stock transformers, in float32.

Stock is the plainest way: row by row, no padding, no shared prefix; `generate` for answers. Weights are
random and larger than usual, so that answers depend on the prompt; windows are shorter than the longest row.
"""

from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from sapo.answers.greedy import answer
from sapo.prompts import sharing
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import prefix_length
from sapo.prompts.sharing import PADDED, TESTED, shared_length, tokens_at_a_time
from sapo.runtime.errors import DataError
from sapo.selection.loss import RowLosses
from sapo.training.dropout import Draws
from sapo.training.loop import backward

PAD, VOCABULARY, WINDOW, NEW_TOKENS = 2, 259, 40, 6
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "head_dim": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": PAD,
    "pad_token_id": PAD,
}
WINDOWED = {"sliding_window": WINDOW}
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
EXTRA: dict[str, dict[str, Any]] = {
    "exaone4": WINDOWED,
    "gemma2": WINDOWED,
    "gemma3_text": WINDOWED,
    "cohere2": WINDOWED,
    "gpt_oss": WINDOWED | EXPERTS,
    "ministral": WINDOWED,
    "mistral": WINDOWED,
    "mixtral": EXPERTS,
    "olmo3": WINDOWED,
    "olmoe": EXPERTS,
    "qwen3_moe": EXPERTS | {"moe_intermediate_size": 32},
    "starcoder2": WINDOWED,
    "qwen3": WINDOWED | {"use_sliding_window": True, "max_window_layers": 2},
    "gpt_neo": {
        "attention_types": [[["global", "local"], 2]],
        "num_layers": 4,
        "num_heads": 4,
        "window_size": WINDOW,
    },
    "llama4_text": {"attention_chunk_size": WINDOW, "num_local_experts": 4, "no_rope_layers": [1, 1, 1, 0]},
    "falcon_h1": {
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_chunk_size": 16,
    },
    "qwen3_next": EXPERTS
    | {
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "jamba": EXPERTS | {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "xglm": {"d_model": 32, "attention_heads": 4, "num_layers": 4, "ffn_dim": 64},
}
NO_LORA = [
    "router",
    "out_proj",
    "conv1d",
]  # Mamba's kernels, and a router of Llama 4, do not call them as layers
SEES_ALL = {"mistral": {"sliding_window": None}}  # the same architectures without any window
ALONE = ["rwkv"]  # in neither list, and padding would change its numbers


def new_model(architecture: str, **options: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    extra = SHAPE | EXTRA.get(architecture, {}) | options
    model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **extra))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    return model.eval()


def new_rows(own: list[int], answers: list[int], start: int = 14) -> list[Encoded]:
    """Rows that share `start` tokens, with these numbers of tokens of their own and of their answers."""
    draw = torch.Generator().manual_seed(1)

    def tokens(count: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=draw).tolist()

    common = tokens(start)
    return [
        Encoded([*common, index + 3, *tokens(more)], tokens(length))
        for index, (more, length) in enumerate(zip(own, answers, strict=True))
    ]


ROWS = {
    "short": new_rows([4, 15, 9], [3, 1, 5]),  # within every window, answers to come included
    "long": new_rows([60, 3, 110], [2, 4, 1]),
}

LONGER = new_rows([1], [NEW_TOKENS + 3])[0].answer


def plain_loss(model: torch.nn.Module, row: Encoded) -> Tensor:
    ids = torch.tensor([row.prompt + row.answer])
    logs = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    places = torch.arange(len(row.prompt) - 1, ids.shape[1] - 1)
    return -logs[places, torch.tensor(row.answer)].sum()


def plain_answer(model: PreTrainedModel, row: Encoded) -> list[int]:
    greedy = GenerationConfig(max_new_tokens=NEW_TOKENS, eos_token_id=PAD, pad_token_id=PAD)
    ids = torch.tensor([row.prompt])
    found: Any = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=greedy)
    answer: list[int] = found[0, len(row.prompt) :].tolist()
    return answer[: answer.index(PAD)] if PAD in answer else answer


def adapted(model: PreTrainedModel) -> PeftModel:
    """A LoRA that is not zero on every linear layer but the last."""
    config = LoraConfig(
        r=2, lora_alpha=8, target_modules="all-linear", exclude_modules=NO_LORA, task_type="CAUSAL_LM"
    )
    torch.manual_seed(0)
    made = get_peft_model(model, config)
    assert isinstance(made, PeftModel)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return made


def gradients(model: PeftModel) -> Tensor:
    found = [p.grad for _, p in sorted(model.named_parameters()) if p.grad is not None]
    model.zero_grad()
    return torch.cat([one.flatten() for one in found])


CASES = [(name, {}) for name in [*sorted(TESTED), *sorted(PADDED), *ALONE]] + list(SEES_ALL.items())


@pytest.mark.parametrize(("architecture", "options"), CASES, ids=str)
def test_equal_to_stock_transformers(architecture: str, options: dict[str, Any]) -> None:
    model = new_model(architecture, **options)
    for rows in ROWS.values():
        with torch.no_grad():
            expected = torch.stack([plain_loss(model, row) for row in rows]).tolist()
            assert RowLosses(model, rows, PAD, 400)(range(len(rows))) == pytest.approx(expected, rel=2e-5)
        answers = [plain_answer(model, row) for row in rows]
        assert len(set(map(tuple, answers))) > 1, "answers that do not depend on the prompt show nothing"
        # One right answer is the end of turn alone, another longer than answers may be
        asked = [*rows, Encoded(rows[0].prompt, [PAD]), Encoded(rows[1].prompt, LONGER)]
        with torch.no_grad():
            means = [-plain_loss(model, row).item() / len(row.answer) for row in asked]
        found, likelihoods = answer(model, asked, {PAD}, PAD, NEW_TOKENS, 200, "")
        assert found == [*answers, *answers[:2]]
        assert likelihoods == pytest.approx(means, abs=1e-5)

    peft = adapted(model)
    for rows in ROWS.values():
        (sum(plain_loss(peft, row) for row in rows) / sum(len(row.answer) for row in rows)).backward()  # type: ignore[union-attr]
        stock = gradients(peft)
        draws = Draws(peft, 0, prefix_length(rows))
        budget = tokens_at_a_time(model.config, 400)
        backward(peft, rows, range(len(rows)), draws, shared_length(model, rows), PAD, budget)
        assert (gradients(peft) - stock).norm() <= 1e-4 * stock.norm()


def test_a_prefix_is_shared_where_every_layer_sees_the_whole_row_and_the_log_says_where_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "sapo")
    sharing._say.cache_clear()
    windowed, short, long = new_model("mistral"), ROWS["short"], ROWS["long"]
    assert shared_length(windowed, short) == 14
    assert not caplog.text
    assert shared_length(windowed, short, room=WINDOW) == 0  # the answer to come does not fit
    assert shared_length(windowed, long) == 0
    assert shared_length(windowed, long) == 0
    assert caplog.text.count(f"layers of this mistral see {WINDOW} tokens") == 1
    assert shared_length(new_model("mistral", sliding_window=None), long) == 14
    assert shared_length(new_model("mpt"), short) == 0
    assert "not been tested to be exact for models of type mpt" in caplog.text


@pytest.mark.parametrize(
    ("architecture", "options", "most"),
    [
        ("opt", {"max_position_embeddings": 60}, 60),
        ("llama", {"max_position_embeddings": 60}, 60),
        (
            "llama",
            {
                "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
                "max_position_embeddings": 60,
            },
            60,
        ),
        (
            "phi3",
            {
                "original_max_position_embeddings": 60,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "short_factor": [1] * 4,
                    "long_factor": [2] * 4,
                    "rope_theta": 1e4,
                },
            },
            60,
        ),
    ],
    ids=str,
)
def test_rows_beyond_the_models_context_are_refused(
    architecture: str, options: dict[str, Any], most: int
) -> None:
    model = new_model(architecture, **options)
    assert shared_length(model, ROWS["short"], room=NEW_TOKENS) == 14
    for rows, room in ((ROWS["long"], 0), (ROWS["short"], 50)):
        with pytest.raises(DataError, match=f"reads at most {most} tokens .* prompt.max_tokens"):
            shared_length(model, rows, room)


def test_models_that_were_not_tested_with_padding_run_a_row_at_a_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "sapo")
    sharing._say.cache_clear()
    assert tokens_at_a_time(new_model("mpt").config, 400) == 400
    assert tokens_at_a_time(new_model("rwkv").config, 400) == 1
    assert "rows run one at a time: models of type rwkv have not been tested with padded rows" in caplog.text
