"""What a server sends in place of a text: words for each cause, and an end where asking cannot help."""

import json
from typing import Any

import pytest

from canaries import KEY
from openai_server import Answer, OpenAIServer, choices, completion, message, refusal
from reviews import REVIEWS, fail, good, wanted
from sapo.candidates.answer import BusyError, FinalError, NoTextError, failure, read_answer
from sapo.candidates.api import TRIES, from_api

TEXT = {"type": "text", "text": good(900)}
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "positive? negative?"}]}


@pytest.mark.parametrize(
    "content",
    [
        [TEXT],
        [{"type": "text", "text": {"value": good(900), "annotations": []}}],
        [THINKING, {"type": "output_text", "text": {"value": good(900)}}],
        [THINKING, TEXT],
        [{"type": "reasoning", "text": "hm"}, TEXT],
        [{"type": "reasoning_content", "text": "hm"}, {"type": "output_text", "text": good(900)}],
        [{"type": "text", "text": good(900)[:20]}, {"type": "text", "text": good(900)[20:]}],
        [good(900)],
        [THINKING, {"text": good(900)}],
    ],
)
def test_the_text_parts_of_a_list_are_joined_and_thinking_is_dropped(
    endpoint: OpenAIServer, content: Any
) -> None:
    endpoint.first(message(content=content))
    assert from_api(REVIEWS, wanted(1))[0] == [good(900)]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"content": [THINKING]}, "it holds no text, only thinking"),
        ({"content": [{"type": "image_url", "image_url": {}}, 3]}, "it holds no text, only None, image_url"),
        ({"content": []}, "it holds no text"),
        ({"content": {"text": "x"}}, "it holds no text"),
        ({"content": None, "reasoning_content": "hm"}, "it holds no text, only thinking"),
        ({"content": "", "reasoning_content": "hm"}, "it holds no text, only thinking"),
        ({"content": " \n", "reasoning": "hm"}, "it holds no text, only thinking"),
        ({"content": "", "reasoning_content": ""}, "it is empty"),
        ({"content": "<answer></answer>"}, "it is empty"),
        ({"content": [{"type": "text", "text": ""}]}, "it is empty"),
        ({"content": [{"type": "text", "text": {"value": 3}}]}, "it holds no text, only text"),
        ({"content": None, "refusal": f"I can't, {KEY}"}, "the model refuses: I can't, ***"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "it calls a tool instead of answering"),
        ({"content": None, "function_call": {"name": "f"}}, "it calls a tool instead of answering"),
        ({"content": good(900), "finish": "length"}, "it is cut off at the server's limit of tokens"),
    ],
)
def test_an_answer_without_a_usable_text_is_told_in_its_own_words_and_asked_for_again(
    endpoint: OpenAIServer, parts: dict[str, Any], reason: str
) -> None:
    endpoint.first(message(**parts))
    texts, how = from_api(REVIEWS, wanted(1))
    assert (texts, how.rejected) == ([good(1)], {reason: 1})


@pytest.mark.parametrize(
    ("lasting", "told"),
    [
        (message(content="", finish="content_filter"), "its content filter stops the answer). Choose"),
        (message(content=None, finish="length"), "the server's limit of tokens ends it before its text"),
        (message(content="<think>Well,", finish="length"), "the server's limit of tokens ends it before its"),
        (
            Answer(body=b"<html>", headers={"Content-Type": "text/html"}),
            "a web page, not JSON). Check OPENAI_BASE",
        ),
    ],
)
def test_what_asking_again_cannot_change_ends_it_after_the_first_answer(
    endpoint: OpenAIServer, lasting: Answer, told: str
) -> None:
    endpoint.always(lasting)
    assert told in fail(wanted(20))
    assert len(endpoint.requests) == 1


def within(error: Any) -> Answer:
    """An answer of status 200 that holds an error."""
    return Answer(body=json.dumps(error).encode())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"error": {"code": 401, "message": "No auth credentials found"}}, "status 401: No auth credentials"),
        ({"error": {"code": "invalid_api_key", "message": "wrong"}}, "(wrong)"),
        (
            {"error": {"message": "The model `m` does not exist", "type": "x", "code": "model_not_found"}},
            "The model `m`",
        ),
        ({"error": "model 'm' not found, try pulling it first"}, "model 'm' not found"),
        ({"error": {"message": "Insufficient credits", "code": 402}}, "Insufficient credits). The account"),
        ({"object": "error", "message": "max_tokens is too large", "code": 400}, "max_tokens is too large"),
        ({"detail": "Not authenticated"}, "Not authenticated"),
        ({"choices": [{"error": {"code": 403, "message": "moderation"}, "message": None}]}, "moderation"),
        ({"error": {"code": 401, "message": f"Bearer {KEY}{'.' * 900}"}}, "status 401: Bearer ***..."),
    ],
)
def test_an_error_within_an_answer_that_lasts_ends_it_after_the_first(
    endpoint: OpenAIServer, error: Any, told: str
) -> None:
    endpoint.always(within(error))
    found = fail(wanted(20))
    assert told in found
    assert len(found) < 600
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"code": 502, "message": "Provider returned error"}},
        {"error": {"type": "server_error", "message": "try again"}},
        {"choices": [{"error": {"code": 500, "message": "upstream"}, "message": {"content": "For"}}]},
        {"message": "something happened"},
    ],
)
def test_an_error_within_an_answer_that_may_pass_is_asked_again(endpoint: OpenAIServer, error: Any) -> None:
    endpoint.first(within(error))
    texts, how = from_api(REVIEWS, wanted(1))
    assert texts == [good(1)]
    [reason] = how.rejected
    assert reason.startswith("the server reports an error: ")


@pytest.mark.parametrize(
    "error", [{"code": 429, "message": "slow"}, {"code": "rate_limit_exceeded"}, {"message": "Overloaded"}]
)
def test_an_error_within_an_answer_that_says_too_much_is_waited_for(
    endpoint: OpenAIServer, error: Any
) -> None:
    endpoint.first(within({"error": error}))
    texts, how = from_api(REVIEWS, wanted(1))
    assert (texts, how.asked) == ([good(1)], 1)


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(
    "lasting",
    [
        completion(None),
        choices([]),
        message(content=[THINKING]),
        message(content=None, refusal="no"),
        completion(""),
        completion(" \n"),
        completion('""'),
        completion("```\n```"),
        completion("<think>Well.</think>"),
        completion("<think>Well,"),
        message(content="", reasoning_content="Well."),
        message(content=[{"type": "text", "text": ""}]),
    ],
)
def test_answers_without_a_text_are_not_paid_for_twenty_times(
    endpoint: OpenAIServer, lasting: Answer, concurrency: int
) -> None:
    endpoint.always(lasting)
    assert f"{TRIES} answers in a row hold no text: " in fail(wanted(20, concurrency))
    assert TRIES <= len(endpoint.requests) < TRIES + concurrency


def test_a_quota_that_comes_back_soon_is_a_rate_limit() -> None:
    error = {
        "message": "You exceeded your current quota, check your billing. Please retry in 34.1s.",
        "code": 429,
    }
    assert isinstance(failure(429, error), BusyError)
    assert isinstance(failure(429, {"message": "exceeded your current quota"}, 5.0), BusyError)
    assert isinstance(failure(429, {"message": "exceeded your current quota"}), FinalError)
    assert failure(429, {"code": "insufficient_quota", "message": "retry in 3 s"}).__class__ is FinalError


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"data: {}\n\n"])
def test_what_is_no_json_is_asked_for_again(content: bytes) -> None:
    with pytest.raises(NoTextError, match="not valid JSON"):
        read_answer(content, "application/json")


def test_a_refused_model_is_told_in_the_servers_words(endpoint: OpenAIServer) -> None:
    endpoint.always(refusal(404, "The model `some-model` does not exist", "model_not_found"))
    assert "status 404: The model `some-model` does not exist). Check OPENAI_API_KEY" in fail(wanted(20))
    assert len(endpoint.requests) == 1
