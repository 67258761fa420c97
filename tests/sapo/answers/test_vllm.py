"""What can be known of the vLLM engine where vLLM is not installed: it says so."""

import importlib.util

import pytest

from sapo.answers.vllm import vllm_engine
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
