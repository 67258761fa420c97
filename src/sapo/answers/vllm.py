"""Greedy answers and log-likelihoods from vLLM, if installed: the base model, the adapter as a LoRA request.

Losses of candidates never come from it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sapo.prompts.encoder import Encoded
from sapo.runtime.errors import DataError
from sapo.runtime.processes import process_count

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM can be started with


def vllm_engine(
    base: str, dtype: str, adapter: Path | None, rank: int, max_tokens: int
) -> Callable[[Sequence[Encoded], set[int], int], tuple[list[list[int]], list[float]]]:
    """A function of rows, stop tokens and the limit of new tokens, like sapo.answers.greedy.answer.

    max_tokens: the bound on all tokens of a row, its answer included. adapter: its folder, if any, and its
    `rank`.
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
    # One token more: vLLM generates at least one behind prompt and right answer
    llm = LLM(model=str(base), dtype=dtype, max_model_len=max_tokens + 1, trust_remote_code=False, **options)
    request = LoRARequest(adapter.name, 1, str(adapter)) if adapter else None

    def complete(prompts: Sequence[list[int]], **settings: Any) -> list[Any]:
        sampling = SamplingParams(temperature=0.0, detokenize=False, **settings)
        texts = [{"prompt_token_ids": prompt} for prompt in prompts]
        return list(llm.generate(texts, sampling, lora_request=request))

    def answer(
        rows: Sequence[Encoded], stop: set[int], max_new_tokens: int
    ) -> tuple[list[list[int]], list[float]]:
        prompts = [row.prompt for row in rows]
        outputs = complete(prompts, max_tokens=max_new_tokens, stop_token_ids=sorted(stop))
        found = [[token for token in output.outputs[0].token_ids if token not in stop] for output in outputs]
        read = complete([row.prompt + row.answer for row in rows], max_tokens=1, prompt_logprobs=1)
        return found, [log_likelihood(row, one.prompt_logprobs) for row, one in zip(rows, read, strict=True)]

    return answer


def log_likelihood(row: Encoded, logprobs: Sequence[Mapping[int, Any] | None]) -> float:
    """The mean log-probability (nats) of the answer's tokens.

    logprobs: vLLM's `prompt_logprobs` of prompt and answer: of each token, id -> its Logprob, the token's own
    id always among them; None for the first token.
    """
    behind = zip(row.answer, logprobs[len(row.prompt) :], strict=True)
    return math.fsum(of[token].logprob if of else math.nan for token, of in behind) / len(row.answer)
