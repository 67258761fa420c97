"""The key goes to the address that the environment names, and into no error and no file."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from canaries import KEY, holding, repeated
from openai_server import OpenAIServer, refusal
from reviews import REVIEWS, fail, stored, wanted
from sapo.candidates import endpoint as endpoints
from sapo.candidates.api import from_api
from sapo.runtime.command import run
from sapo.runtime.keys import OPENAI


def test_fault_17_a_refused_key_ends_it_at_once_and_is_written_nowhere(
    endpoint: OpenAIServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for padding in (0, 20, 330, 345, 360, 380):  # the message is cut: not within the key
        endpoint.forget()
        endpoint.always(
            refusal(
                401, f"{'.' * padding} wrong key: Authorization: Bearer {KEY} (ends in {KEY}) is not ours"
            )
        )
        message = fail(wanted(20, concurrency=4))
        assert "status 401" in message
        assert "OPENAI_API_KEY" in message
        assert KEY[:6] not in message
        assert 1 <= len(endpoint.requests) <= 4
    printed = capfd.readouterr()
    assert KEY[:6] not in printed.out + printed.err
    assert stored(tmp_path) == []


def test_neither_key_nor_address_is_kept_with_the_candidates(
    endpoint: OpenAIServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address = endpoint.url.removeprefix("http://")
    endpoint.dies_after(3, refusal(401, "enough"))
    message = fail(wanted(4))
    held = [str(path).encode() + path.read_bytes() for path in stored(tmp_path)]
    assert len(held) == 3
    endpoint.first()
    written = repr(from_api(REVIEWS, wanted(4)))
    printed = capfd.readouterr()
    for text in (message, written, printed.out, printed.err, *map(bytes.decode, held)):
        assert KEY not in text
        assert address not in text


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_nothing_is_asked(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str | None
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    message = fail(wanted(2))
    assert "OPENAI_API_KEY" in message
    assert "paraphrase.source=bank" in message
    assert endpoint.requests == []
    assert stored(tmp_path) == []


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
@pytest.mark.parametrize("around", ["\u201c{}\u201d", "{}\n", "my {}", "{}\u00fc"])
def test_what_no_header_can_hold_is_named(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, name: str, around: str
) -> None:
    monkeypatch.setenv(name, around.format(KEY))
    assert fail(wanted(2)).startswith(f"{name} holds characters")
    assert endpoint.requests == []


@pytest.fixture
def elsewhere() -> Iterator[OpenAIServer]:
    """Another host than the endpoint's, which refuses everything."""
    with OpenAIServer(lambda request: refusal(401), host="127.0.0.2") as server:
        yield server


# So long that an answer with the key in it fails no other check
QUESTION = "Is it good or bad? Answer with one of these two words and nothing else."
FAULTS = ["400", "401", "404", "429", "500", "html", "hang up", "not json", "answer", "redirect"]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_key_is_in_no_error_and_no_file_whatever_the_server_repeats(
    endpoint: OpenAIServer,
    elsewhere: OpenAIServer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 1)
    monkeypatch.setattr("sys.argv", ["paraphrase.py"])
    endpoint.always(repeated(fault, KEY, f"{elsewhere.url}/chat/completions"))
    task = replace(REVIEWS, instruction=QUESTION, labels=["good", "bad"])
    with pytest.raises(SystemExit) as ended:
        run(lambda: from_api(task, wanted(2, concurrency=2)), OPENAI)
    assert endpoint.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert str(ended.value).startswith("error: reviews: ")
    printed = capfd.readouterr()
    assert KEY not in f"{ended.value}{printed.out}{printed.err}"
    assert holding(tmp_path, KEY) == []
    assert [one for one in elsewhere.requests if "authorization" in one.headers] == []
    assert bool(elsewhere.requests) == (fault == "redirect")
