"""Where the first tokens may run once for all rows: where that is exact, and tested to be."""

import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from sapo.models.context import check_length
from sapo.prompts.encoder import Encoded
from sapo.prompts.prefix import prefix_length

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# Architectures whose layers tell positions by `position_ids` and keep every token's keys and values. Rows
# behind a shared prefix, with padding between, then have the losses, gradients and answers of stock
# transformers: tests/sapo/prompts/test_architectures.py compares each. In others (MPT, GPT-Neo) padding may
# count as distance.
TESTED = frozenset(
    """
    apertus arcee cohere cohere2 ernie4_5 exaone4 gemma gemma2 gemma3_text glm glm4 gpt_neox gpt_oss granite
    helium hunyuan_v1_dense llama ministral mistral mixtral nemotron olmo olmo2 olmo3 olmoe opt persimmon phi
    phi3 qwen2 qwen3 qwen3_moe seed_oss smollm3 stablelm starcoder2
    """.split()  # noqa: SIM905
)
# Compared there, too: rows padded on the left are exact, a shared prefix is not or cannot be had
PADDED = frozenset(
    """
    biogpt bloom falcon_h1 gpt_bigcode gpt_neo granitemoe jamba lfm2 llama4_text mamba mpt qwen3_next
    recurrent_gemma xglm
    """.split()  # noqa: SIM905
)
logger = logging.getLogger(__name__)


def tokens_at_a_time(config: "PreTrainedConfig", budget: int) -> int:
    """How many padded tokens may run at a time: `budget`, or a row at a time where padding was not tested."""
    kind = _kind(config)
    if kind in TESTED | PADDED:
        return budget
    _say(f"rows run one at a time: models of type {kind} have not been tested with padded rows")
    return 1


def keeps_every_token(config: "PreTrainedConfig") -> bool:
    """Whether the model's cache can be cut, repeated and put together along tokens and rows.

    Its layers are attention layers alone, and the architecture is among those tested.
    """
    kinds = {type(layer) for layer in DynamicCache(config=config).layers}
    return _kind(config) in TESTED and kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


def window(config: "PreTrainedConfig") -> int | None:
    """The shortest sliding window of the model's layers in tokens; None where every layer sees all tokens."""
    layers = DynamicCache(config=config).layers
    sizes = [layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)]
    return min(sizes, default=None)


def shared_length(model: "PreTrainedModel", rows: Sequence[Encoded], room: int = 0) -> int:
    """How many leading prompt tokens of the rows may run once for all of them; 0 where that is not exact.

    room: tokens that may come after a prompt, where its answer is not longer. Raises DataError for a row that
    is longer than the model's context.
    """
    longest = max(len(row.prompt) + max(len(row.answer), room) for row in rows)
    check_length(model.config, longest)
    reason = _reason(model.config, longest)
    if reason:
        _say(reason)
        return 0
    return prefix_length(rows)


def _reason(config: "PreTrainedConfig", longest: int) -> str:
    """Why rows of up to `longest` tokens share nothing; empty where they may."""
    kind = _kind(config)
    if not keeps_every_token(config):
        return f"nothing is shared between rows: it has not been tested to be exact for models of type {kind}"
    seen = window(config)
    if seen is not None and longest > seen:
        return f"nothing is shared between rows: layers of this {kind} see {seen} tokens, and rows are longer"
    return ""


def _kind(config: "PreTrainedConfig") -> str:
    return str(config.get_text_config(decoder=True).model_type)


@cache
def _say(reason: str) -> None:
    """Log it once a process."""
    logger.info(reason)
