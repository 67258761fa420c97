"""What can be known of the vLLM engine without vLLM: it says so, and how it reads log-probabilities."""

import importlib.util
import math
from types import SimpleNamespace

import pytest

from sapo.answers.vllm import log_likelihood, vllm_engine
from sapo.prompts.encoder import Encoded
from sapo.runtime.errors import DataError


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_engine_says_what_is_missing() -> None:
    with pytest.raises(
        DataError, match=r"evaluate\.engine=vllm: vLLM cannot be used here .*install it, or use transformers"
    ):
        vllm_engine("models/base", "float32", None, rank=0, max_tokens=100)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="launch=single"):
        vllm_engine("models/base", "float32", None, rank=0, max_tokens=100)


def test_a_log_likelihood_is_the_mean_over_the_answers_own_tokens() -> None:
    told = [None, {6: -9.0}, {8: -0.1, 7: -1.5}, {2: -0.5}]  # the likeliest token may be told too
    logprobs = [
        one and {token: SimpleNamespace(logprob=value) for token, value in one.items()} for one in told
    ]
    assert log_likelihood(Encoded([5, 6], [7, 2]), logprobs) == -1.0
    assert math.isnan(log_likelihood(Encoded([5, 6], [7, 2]), [*logprobs[:3], None]))
    with pytest.raises(ValueError, match="shorter"):
        log_likelihood(Encoded([5, 6], [7, 2]), logprobs[:3])
