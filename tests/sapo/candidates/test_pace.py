"""A server that says "too much": all workers wait together, fewer go on, and patience has an end."""

import re
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from openai_server import Answer, OpenAIServer, refusal
from reviews import REVIEWS, check, fail, wanted
from sapo.candidates import pace
from sapo.candidates.api import from_api
from sapo.candidates.pace import ImpatientError, Pace, wanted_wait
from sapo.runtime import progress

OVERLOADED = Answer(body=b'{"error": {"message": "model overloaded"}}')
BUSY = [
    refusal(429, "slow down"),
    refusal(429, "Rate limit reached. Please try again in 20s.", "rate_limit_exceeded"),
    refusal(503, "The engine is overloaded"),
    refusal(529, "overloaded_error"),
    Answer(body=b'{"error": {"code": 429, "message": "Rate limited"}}'),
    OVERLOADED,
]


@pytest.mark.parametrize("busy", BUSY, ids=["429", "429 code", "503", "529", "in 200", "overloaded in 200"])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_twenty_are_had_from_a_server_that_allows_six_in_a_while(
    endpoint: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    busy: Answer,
    concurrency: int,
) -> None:
    monkeypatch.setattr(pace, "PATIENCE", 60.0)
    monkeypatch.setattr(pace, "FIRST", 0.05)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    endpoint.lets_through(6, 0.3, busy)
    texts, how = from_api(REVIEWS, wanted(20, concurrency))
    check(texts, 20)
    assert (how.asked, how.rejected) == (20, {})
    cause = "server overloaded" if busy.status > 500 or busy is OVERLOADED else "rate limit"
    assert f"{cause}: waiting " in capfd.readouterr().err
    assert len(endpoint.requests) < 60  # nobody hammers at it


@pytest.mark.parametrize(
    ("busy", "told"),
    [
        (refusal(429, "slow down"), "(rate limit, no answer in 0 s of waiting; status 429: slow down)"),
        (refusal(503, "busy"), "(server overloaded, no answer in 0 s of waiting; status 503: busy)"),
        (OVERLOADED, "(server overloaded, no answer in 0 s of waiting; model overloaded)"),
        (refusal(429, "slow down", retry_after="3600"), "(rate limit, it asks to wait 3600 s; status 429: "),
    ],
)
def test_patience_ends_with_the_cause_and_the_setting(
    endpoint: OpenAIServer, busy: Answer, told: str
) -> None:
    endpoint.dies_after(3, busy)
    message = fail(wanted(20, concurrency=4))
    assert told in message
    advice = r"Lower paraphrase\.concurrency \(now 4\), or wait, then run again: the [0-3] accepted are kept"
    assert re.search(f"{advice}$", message)  # answers that are under way when it ends are kept, too


def test_a_wait_that_the_server_asks_for_is_waited() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=90)
    assert wanted_wait({"retry-after": "7"}) == 7
    assert wanted_wait({"retry-after": "7", "retry-after-ms": "250"}) == 0.25
    assert wanted_wait({"retry-after": format_datetime(soon, usegmt=True)}) == pytest.approx(90, abs=30)
    assert wanted_wait({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    for nothing in ({}, {"retry-after": "soon"}, {"retry-after": ""}):
        assert wanted_wait(nothing) is None


def test_pauses_grow_and_workers_become_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST", 0.01)
    told: list[str] = []
    one = Pace(8, told.append)
    for most in (4, 2, 1, 1):
        turn = one.begin()
        assert turn is not None
        one.refused(turn, "rate limit", None)
        assert one.most == most
    before = one._until
    one.begin()
    one.answered()
    assert told[-1] == ""
    assert [text.startswith("rate limit: waiting ") for text in told] == [True] * 4 + [False]
    turn = one.begin()
    assert turn is not None
    one.refused(turn, "rate limit", None)
    assert one._until > before


def test_requests_that_were_under_way_together_make_one_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST", 0.01)
    one = Pace(8, lambda text: None)
    turns = [one.begin() for _ in range(8)]
    for turn in turns:
        assert turn is not None
        one.refused(turn, "rate limit", None)
    assert (one.most, one._pauses) == (4, 1)


def test_who_waits_is_let_go_when_all_is_ended() -> None:
    one = Pace(1, lambda text: None)
    assert one.begin() == 0
    found: list[int | None] = []
    waiting = threading.Thread(target=lambda: found.append(one.begin()))
    waiting.start()
    one.end()
    waiting.join(20)
    assert found == [None]


def test_a_wait_that_outlasts_patience_is_refused_at_once() -> None:
    one = Pace(1, lambda text: None)
    turn = one.begin()
    assert turn is not None
    with pytest.raises(ImpatientError, match="it asks to wait 301 s"):
        one.refused(turn, "rate limit", 301.0)
