"""What a language model is asked for its paraphrases, and how many requests are under way at once."""

import re
import threading
import time
from dataclasses import replace

import pytest

from canaries import KEY
from openai_server import PATIENCE, OpenAIServer, Request, completion
from reviews import REVIEWS, STANCES, check, good, wanted
from sapo.artifacts.task import Task
from sapo.candidates.api import from_api


def test_fault_17_model_and_temperature_reach_the_endpoint(endpoint: OpenAIServer) -> None:
    for settings in (wanted(2, temperature=0.0), wanted(1, model="org/other:8b", temperature=1.75)):
        endpoint.forget()
        how = from_api(REVIEWS, settings)[1]
        for request in endpoint.requests:
            assert request.path == "/v1/chat/completions"
            assert request.headers["authorization"] == f"Bearer {KEY}"
            assert (request.body["model"], request.body["temperature"]) == (
                settings.model,
                settings.temperature,
            )
        assert (how.model, how.temperature) == (settings.model, settings.temperature)


@pytest.mark.parametrize("task", [REVIEWS, STANCES], ids=lambda task: task.name)
def test_fault_02_an_instruction_with_braces_and_quotes_reaches_the_request_unchanged(
    endpoint: OpenAIServer, task: Task
) -> None:
    for around in ("{}", '{{}}{{}}{{0}} "quoted" \\"{} %s %(x)s ${{x}} <b>&amp;</b> \\u0041'):
        changed = replace(task, instruction=around.format(task.instruction))
        endpoint.first(completion(""))
        check(from_api(changed, wanted(2))[0], 2, changed)
        assert all(changed.instruction in request.question for request in endpoint.requests[-3:])


def test_fault_17_the_labels_are_named_in_every_request(endpoint: OpenAIServer) -> None:
    endpoint.first(completion(""))
    from_api(REVIEWS, wanted(2))
    for request in endpoint.requests:
        assert (
            "Keep these labels exactly as they are spelt: positive, negative." in request.question
        )  # "mixed" is not in it


def test_every_candidate_is_asked_for_in_another_manner(endpoint: OpenAIServer) -> None:
    from_api(REVIEWS, wanted(8))
    assert len({request.question for request in endpoint.requests}) == 8


def test_a_repeated_request_asks_for_another_manner_also_with_twenty_candidates(
    endpoint: OpenAIServer,
) -> None:
    endpoint.first(completion(""), completion(""))
    from_api(REVIEWS, wanted(20))
    manners = [
        re.findall(r"^Manner \(version [\d.]+\): (.*)$", request.question, re.MULTILINE)[0]
        for request in endpoint.requests[:3]
    ]
    assert len(set(manners)) == 3


def test_a_chinese_task_is_asked_for_in_chinese(endpoint: OpenAIServer) -> None:
    chinese = "请选择态度，{}：从A，B或者C里选一项输出。"
    endpoint.first(
        completion(chinese.format("先读文本")), completion(""), completion(chinese.format("再做判断"))
    )
    texts, how = from_api(STANCES, wanted(2))
    assert texts == [chinese.format("先读文本"), chinese.format("再做判断")]
    assert how.rejected == {"it is empty": 1}
    for request in endpoint.requests:
        assert "重写" in request.question
        assert "A、B、C" in request.question
        assert "Rewrite" not in request.question
    assert "it is empty" in endpoint.requests[2].question


@pytest.mark.parametrize(("count", "concurrency"), [(20, 8), (3, 8), (3, 1), (5, 2)])
def test_as_many_requests_as_allowed_are_under_way_and_no_more(
    endpoint: OpenAIServer, count: int, concurrency: int
) -> None:
    most = min(count, concurrency)
    together = threading.Barrier(most)

    def meet(request: Request) -> None:
        if request.number < most:
            together.wait(
                PATIENCE
            )  # broken, and so an error 500 or less, unless all of them are here at once
            time.sleep(0.05)  # one too many has the time to come

    endpoint.script = meet
    texts, _ = from_api(REVIEWS, wanted(count, concurrency))
    check(texts, count)
    assert endpoint.most_held == most
    assert len(endpoint.requests) == count


def test_in_the_plain_style_every_request_is_the_same_also_after_a_rejected_answer(
    endpoint: OpenAIServer,
) -> None:
    endpoint.first(None, completion(""), completion(good(0)))
    texts, how = from_api(REVIEWS, wanted(6, style="plain"))
    check(texts, 6)
    assert len({request.question for request in endpoint.requests}) == 1
    assert (how.style, how.asked) == ("plain", 8)
    assert how.rejected == {"it is empty": 1, "it is a duplicate": 1}
