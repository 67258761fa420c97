"""Accepted paraphrases are kept: nothing is paid for twice, and none that does not fit is used again."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openai_server import HANG_UP, Answer, OpenAIServer, completion, refusal
from reviews import INSTRUCTION, REVIEWS, answers_from, check, fail, fill, good, stored, wanted
from sapo.artifacts.task import Task
from sapo.candidates import endpoint as endpoints
from sapo.candidates.api import TRIES, from_api
from sapo.runtime.outputs import write_json


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("last", [refusal(401, "no more credit"), HANG_UP], ids=["401", "hang up"])
def test_what_was_paid_for_before_a_crash_is_not_asked_for_again(
    endpoint: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, concurrency: int, last: Answer
) -> None:
    monkeypatch.setattr(endpoints, "RETRIES", 0)
    endpoint.dies_after(5, last)
    kept = "5" if concurrency == 1 else "[1-5]"  # several may be under way when it ends
    assert re.search(f"run again: the {kept} accepted are kept", fail(wanted(12, concurrency)))
    assert len(stored(tmp_path)) == 5
    endpoint.forget()
    answers_from(100, endpoint)
    texts, how = from_api(REVIEWS, wanted(12, concurrency))
    assert len(endpoint.requests) == 7
    assert how.asked == 12
    assert {good(number) for number in range(5)} < set(texts)
    check(texts, 12)
    endpoint.forget()
    again = from_api(
        REVIEWS, wanted(12, concurrency)
    )  # the stage is run again, for more rows or another concurrency
    assert (again, endpoint.requests) == ((texts, how), [])


def test_a_crash_after_the_last_answer_costs_nothing(endpoint: OpenAIServer, tmp_path: Path) -> None:
    fill(endpoint, 3)
    [folder] = (tmp_path / "cache" / "paraphrases").iterdir()
    write_json(folder / "3.json", {"text": good(3), "rejected": ["it is empty"]})
    endpoint.always(refusal(500, "gone"))
    texts, how = from_api(REVIEWS, wanted(4))
    assert texts == [good(number) for number in range(4)]
    assert (how.asked, how.rejected) == (5, {"it is empty": 1})
    assert endpoint.requests == []


def test_a_lower_count_takes_what_was_accepted_as_the_error_advises(endpoint: OpenAIServer) -> None:
    endpoint.script = lambda request: completion("No.") if 2 <= request.number < 2 + TRIES else None
    assert "gave 5 of 6 usable" in fail(wanted(6))
    endpoint.always(completion(""))
    check(from_api(REVIEWS, wanted(5))[0], 5)


@pytest.mark.parametrize(
    "content",
    [
        "positive",
        good(0),
        INSTRUCTION,
        "",
        None,
        3,
        [good(7)],
        f"{good(7)}</s>",
        good(7).replace("negative", "bad"),
    ],
)
def test_a_kept_candidate_that_no_longer_passes_the_checks_is_not_used(
    endpoint: OpenAIServer, tmp_path: Path, content: Any
) -> None:
    fill(endpoint, 3)
    [edited] = (tmp_path / "cache").rglob("1.json")
    write_json(edited, {"text": content, "rejected": []})
    texts, _ = from_api(REVIEWS, wanted(4))
    assert texts == [good(0), good(100), good(2), good(101)]
    assert len(endpoint.requests) == 2


def test_a_half_written_candidate_is_not_used(endpoint: OpenAIServer, tmp_path: Path) -> None:
    fill(endpoint, 3)
    [kept] = (tmp_path / "cache").rglob("1.json")
    kept.rename(kept.with_name("1.json.partial"))  # a crash between writing and renaming
    texts, _ = from_api(REVIEWS, wanted(4))
    assert texts == [good(0), good(100), good(2), good(101)]


@pytest.mark.parametrize(
    "content", [b"", b'"For reader', b"\xff\xfe", b"[]", b"3", b"{}", b'{"text": "For"}']
)
def test_a_kept_candidate_that_is_no_json_is_asked_for_again(
    endpoint: OpenAIServer, tmp_path: Path, content: bytes
) -> None:
    fill(endpoint, 3)
    [damaged] = (tmp_path / "cache").rglob("1.json")
    damaged.write_bytes(content)
    assert from_api(REVIEWS, wanted(4))[0] == [good(0), good(100), good(2), good(101)]


@pytest.mark.parametrize(
    ("task", "settings", "path"),
    [
        (REVIEWS, {"model": "another"}, "v1"),
        (REVIEWS, {"temperature": 0.61}, "v1"),
        (REVIEWS, {"style": "plain"}, "v1"),
        (REVIEWS, {}, "v2"),
        (replace(REVIEWS, instruction=f"{INSTRUCTION} "), {}, "v1"),
        (replace(REVIEWS, labels=["positive"]), {}, "v1"),
        (replace(REVIEWS, name="films"), {}, "v1"),
        (replace(REVIEWS, language="zh"), {}, "v1"),
    ],
    ids=["model", "temperature", "style", "endpoint", "instruction", "labels", "task", "language"],
)
def test_fault_03_another_question_does_not_get_the_kept_answers(
    endpoint: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    task: Task,
    settings: dict[str, Any],
    path: str,
) -> None:
    fill(endpoint, 3)
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url.replace("v1", path))
    texts, _ = from_api(task, wanted(4, **settings))
    assert texts == [good(100 + number) for number in range(4)]
    assert len(stored(tmp_path)) == 3 + 4
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    assert from_api(REVIEWS, wanted(4, concurrency=2))[0] == [good(0), good(1), good(2), good(104)]
