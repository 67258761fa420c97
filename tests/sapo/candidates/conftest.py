"""The endpoint that a paraphrase is asked of."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from canaries import KEY
from openai_server import OpenAIServer, connect
from reviews import answers_well
from sapo.candidates import endpoint as endpoints
from sapo.candidates import pace


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """A healthy server, with the environment pointing at it and the cache in `cache`; pauses are short."""
    monkeypatch.setattr(pace, "FIRST", 0.01)
    monkeypatch.setattr(pace, "PATIENCE", 0.5)
    monkeypatch.setattr(endpoints, "PAUSE", 0.01)
    with OpenAIServer(answers_well) as server:
        connect(monkeypatch, server.url, KEY, tmp_path / "cache")
        yield server
