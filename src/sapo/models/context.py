"""How many tokens a model can read."""

from typing import TYPE_CHECKING, Any

from sapo.runtime.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Their frequencies change for all rows of a batch as soon as one row is longer than the original context
BATCH_DEPENDENT = {"dynamic", "longrope"}


def context(config: "PreTrainedConfig") -> tuple[int | None, str]:
    """The most tokens of a row, prompt and answer, and what sets that limit; None where nothing does."""
    text: Any = config.get_text_config(decoder=True)
    limit = getattr(text, "max_position_embeddings", None)
    rope = getattr(text, "rope_parameters", None) or {}
    nested = [one for one in rope.values() if isinstance(one, dict)]  # one for each kind of layer
    for one in nested or [rope]:
        if one.get("rope_type") in BATCH_DEPENDENT:
            original = one.get("original_max_position_embeddings") or getattr(
                text, "original_max_position_embeddings", limit
            )
            return original, (
                f"beyond these, {one['rope_type']} positions would make a row depend on others of its batch"
            )
    return limit, "its context (max_position_embeddings)"


def check_length(config: "PreTrainedConfig", tokens: int) -> None:
    """Refuse (DataError) rows of so many tokens, prompt and answer, where the model reads fewer."""
    most, why = context(config)
    if most is not None and tokens > most:
        raise DataError(
            f"the model reads at most {most} tokens ({why}), prompt and answer need {tokens}: "
            "lower prompt.max_tokens or evaluate.max_new_tokens, or shorten the task's longest answers"
        )
