"""Two tasks to be paraphrased, and what every paraphrase of theirs from a language model must be."""

import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml

from canaries import KEY
from openai_server import Answer, OpenAIServer, Request, completion, refusal
from sapo.artifacts.task import Task
from sapo.candidates.api import from_api
from sapo.candidates.bank import BANK
from sapo.candidates.checks import faults, normalised
from sapo.config import Paraphrase
from sapo.runtime.errors import DataError

INSTRUCTION = (
    'Is the {review} below "positive" or "negative"? {{Think}} of {0}, 100% of it \\n, '
    "and answer with 'one' word."
)
REVIEWS = Task("reviews", INSTRUCTION, "Answer:", ["positive", "negative", "mixed"], "en", 8, {}, [], [])
CHINESE = "判断以下文本对指定对象的态度，选择一项，不要解释：输出A，B或者C。"
STANCES = Task("stances", CHINESE, "回答：", ["A", "B", "C"], "zh", 8, {}, [], [])


def good(number: int) -> str:
    """A paraphrase that passes the checks of both tasks, another one for every number."""
    return f"For reader {number}: which fits, positive or negative?（A，B或者C） One word is enough."


def answers_well(request: Request) -> Answer:
    return completion(good(request.number))


def answers_from(start: int, endpoint: OpenAIServer) -> None:
    """Let the server answer well, and otherwise than it has before."""
    endpoint.script = lambda request: completion(good(start + request.number))


def banks() -> dict[str, list[str]]:
    """The repository's own paraphrases, by task."""
    return {path.stem: yaml.safe_load(path.read_text("utf-8"))["paraphrases"] for path in BANK.iterdir()}


def wanted(count: int, concurrency: int = 1, **others: Any) -> Paraphrase:
    settings = {"path": "unused", "model": "some-model", "style": "manners", "temperature": 0.6} | others
    return Paraphrase(source="api", count=count, concurrency=concurrency, **settings)


def check(texts: list[str], count: int, task: Task = REVIEWS) -> None:
    """All there, each one usable and unlike the others."""
    assert len(texts) == count == len({normalised(text) for text in texts})
    assert [faults(text, task.instruction, task.labels) for text in texts] == [[]] * count


def stored(tmp_path: Path) -> list[Path]:
    """The files that wait for the rest."""
    return sorted(path for path in (tmp_path / "cache").rglob("*") if path.is_file())


def fail(settings: Paraphrase, task: Task = REVIEWS) -> str:
    """The error that the settings end in."""
    with pytest.raises(DataError) as caught:
        from_api(task, settings)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def fill(endpoint: OpenAIServer, number: int) -> None:
    """Keep so many accepted answers, all but the last that are wanted, and forget the requests."""
    endpoint.dies_after(number, refusal(401, "enough"))
    fail(wanted(number + 1))
    endpoint.forget()
    answers_from(100, endpoint)
