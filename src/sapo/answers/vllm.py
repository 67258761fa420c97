"""Greedy answers from vLLM, if installed: the base model with the adapter as a LoRA request. Never losses."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sapo.prompts.encoder import Encoded
from sapo.runtime.errors import DataError
from sapo.runtime.processes import process_count

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM can be started with


def vllm_engine(
    base: str, dtype: str, adapter: Path | None, rank: int, max_tokens: int
) -> Callable[[Sequence[Encoded], set[int], int], list[list[int]]]:
    """A function of rows, stop tokens and the limit of new tokens, like sapo.answers.greedy.generate.

    max_tokens: the bound on all tokens of a row. adapter: its folder, if any, and its `rank`.
    Raises DataError where vLLM is not installed, cannot hold the adapter's rank, or would run in several
    processes.
    """
    if process_count() > 1:
        raise DataError("evaluate.engine=vllm starts its own processes: use it with launch=single")
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        raise DataError(
            f"evaluate.engine=vllm: vLLM cannot be used here ({error}); install it, or use transformers"
        ) from None
    options = {}
    if adapter:
        fitting = [most for most in RANKS if most >= rank]
        if not fitting:
            raise DataError(
                f"{adapter} has rank {rank}, vLLM takes at most {RANKS[-1]}: use evaluate.engine=transformers"
            )
        options = {"enable_lora": True, "max_lora_rank": fitting[0]}
    llm = LLM(model=str(base), dtype=dtype, max_model_len=max_tokens, trust_remote_code=False, **options)
    request = LoRARequest(adapter.name, 1, str(adapter)) if adapter else None

    def generate(rows: Sequence[Encoded], stop: set[int], max_new_tokens: int) -> list[list[int]]:
        sampling = SamplingParams(
            temperature=0.0, max_tokens=max_new_tokens, stop_token_ids=sorted(stop), detokenize=False
        )
        outputs = llm.generate(
            [{"prompt_token_ids": row.prompt} for row in rows], sampling, lora_request=request
        )
        return [[token for token in output.outputs[0].token_ids if token not in stop] for output in outputs]

    return generate
