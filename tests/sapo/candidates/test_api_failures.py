"""An endpoint that fails: for a moment, for good, or in the middle of an answer."""

import socket

import pytest

from openai_server import HANG_UP, STALL, Answer, OpenAIServer, completion, refusal
from reviews import REVIEWS, fail, good, wanted
from sapo.candidates import endpoint as endpoints
from sapo.candidates.api import from_api

WHOLE = completion(good(900)).body
CUT = Answer(body=WHOLE[: len(WHOLE) // 2], promised=len(WHOLE))
SOON = {"retry_after_ms": "1"}


@pytest.mark.parametrize(
    "passing",
    [
        refusal(429, "slow down", retry_after="0"),
        refusal(429, "slow down", **SOON),
        refusal(500, "a moment", **SOON),
        refusal(503, "a moment", **SOON),
        HANG_UP,
        CUT,
    ],
    ids=["429 now", "429 soon", "500", "503", "hang up", "cut body"],
)
def test_a_fault_that_passes_costs_nothing_but_a_repeat(endpoint: OpenAIServer, passing: Answer) -> None:
    endpoint.first(passing)
    texts, how = from_api(REVIEWS, wanted(2))
    assert texts == [good(1), good(2)]
    assert (how.asked, how.rejected) == (2, {})
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("lasting", "requests", "told"),
    [
        (refusal(500, "out of order", **SOON), 3, ["status 500", "out of order"]),
        (
            refusal(429, "You exceeded your current quota", "insufficient_quota", **SOON),
            1,
            ["status 429", "You exceeded your current quota", "see its billing"],
        ),
        (
            refusal(429, "check your plan and billing details"),
            1,
            ["status 429", "billing details", "see its billing"],
        ),
        (refusal(402, "Insufficient Balance"), 1, ["status 402", "Insufficient Balance", "see its billing"]),
        (refusal(400, "stopped", "content_filter"), 1, ["status 400", "stopped"]),
        (refusal(400, "max_tokens is too large: 8192"), 1, ["status 400", "max_tokens is too large"]),
        (refusal(404, "there is no model some-model"), 1, ["status 404", "there is no model some-model"]),
        (refusal(400, "temperature must be 1"), 1, ["status 400", "temperature must be 1"]),
        (Answer(403, b"<html>blocked</html>", {"Content-Type": "text/html"}), 1, ["status 403"]),
    ],
)
def test_a_fault_that_lasts_ends_in_an_error_that_tells_it(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, lasting: Answer, requests: int, told: list[str]
) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 2)
    endpoint.always(lasting)
    message = fail(wanted(4))
    assert len(endpoint.requests) == requests
    assert message.startswith("reviews: no answer from the endpoint (")
    assert message.endswith(", then run again: the 0 accepted are kept")
    usual = "Check OPENAI_API_KEY, OPENAI_BASE_URL and paraphrase.model = some-model"
    for part in told if "see its billing" in told else [usual, *told]:
        assert part in message


@pytest.mark.parametrize("lasting", [HANG_UP, CUT], ids=["hang up", "cut body"])
def test_a_connection_that_breaks_every_time_is_an_error(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, lasting: Answer
) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 0)
    endpoint.always(lasting)
    assert "reviews: no answer from the endpoint" in fail(wanted(2))
    assert len(endpoint.requests) == 1


def test_nobody_at_the_address_is_an_error(endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # the port is taken, but nobody listens
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}/v1")
        assert "reviews: no answer from the endpoint" in fail(wanted(2))
    assert endpoint.requests == []


def test_a_server_that_stalls_is_asked_again_and_then_given_up(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 1)
    monkeypatch.setattr(endpoints, "TIMEOUT", 1.0)
    endpoint.first(STALL)
    assert from_api(REVIEWS, wanted(1))[0] == [good(1)]
    monkeypatch.setattr(endpoints, "TIMEOUT", 0.3)
    endpoint.always(STALL)
    assert "timed out" in fail(wanted(2))
    assert len(endpoint.requests) == 4


@pytest.mark.parametrize("address", ["http://localhost:port/v1", "http://[::1/v1"])
def test_an_address_that_is_no_url_is_named(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    assert "OPENAI_BASE_URL" in fail(wanted(2))
