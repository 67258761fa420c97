"""Paraphrases from a language model behind any OpenAI-compatible endpoint, each checked before it is kept.

Key and address come from the environment alone (OPENAI_API_KEY, OPENAI_BASE_URL) and are never written
anywhere.
"""

import os
import re
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tqdm import tqdm

from sapo.artifacts.candidates import Asked
from sapo.artifacts.task import Task
from sapo.candidates.checks import faults
from sapo.candidates.request import request_text
from sapo.runtime.cache import cache_folder
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json, sha256_json
from sapo.runtime.keys import masked
from sapo.runtime.outputs import write_json

if TYPE_CHECKING:
    from openai import OpenAI

    from sapo.config import Paraphrase

TRIES = 5  # questions for one candidate before it is given up
# The client's own: repeats of a request that got no answer, seconds for one (a local model is slow)
RETRIES, TIMEOUT = 4, 600.0
THINKING = re.compile(r"\A.*</think>", re.DOTALL)  # some servers send it without its opening tag
QUOTES = {'"': '"', "\u201c": "\u201d", "\u300c": "\u300d"}


def from_api(task: Task, settings: "Paraphrase") -> tuple[list[str], Asked]:
    """`settings.count` paraphrases, and how they came to be.

    That is: model, temperature, questions asked, answers rejected and why. Accepted ones are kept under the
    cache folder: neither a crash nor more rows nor a higher count pays for any twice. Raises DataError
    without a key, for a request that the endpoint refuses, or when too few candidates pass the checks.
    """
    key = os.environ.get("OPENAI_API_KEY", "")
    if not key:
        raise DataError(
            "paraphrase.source=api needs OPENAI_API_KEY in the environment (and OPENAI_BASE_URL for a server "
            "other than OpenAI's; a local one takes any key); paraphrase.source=bank needs neither"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise DataError("OPENAI_API_KEY holds characters that no key has (quotes or spaces from a paste?)")
    _check_address(os.environ.get("OPENAI_BASE_URL", ""))
    collection = _Collection(task, settings, _store(task, settings))
    if missing := collection.missing():
        _ask_all(collection, missing, key)
    if missing := collection.missing():
        reasons = "\n".join(
            f"  {count} x {reason}" for reason, count in Counter(collection.rejected).most_common(8)
        )
        raise DataError(
            f"{task.name}: {settings.model} gave {settings.count - len(missing)} of {settings.count} usable "
            f"paraphrases in {collection.asked} answers. Rejected:\n{reasons}\n"
            "Those accepted are kept: run again for the rest, choose another paraphrase.model, "
            "or lower paraphrase.count"
        )
    chosen = [collection.accepted[slot] for slot in range(settings.count)]
    rejected = Counter(reason for one in chosen for reason in one["rejected"])
    asked = Asked(
        model=settings.model,
        temperature=settings.temperature,
        asked=len(chosen) + rejected.total(),
        rejected=dict(rejected),
    )
    return [one["text"] for one in chosen], asked


def _check_address(url: str) -> None:
    try:
        address = urlsplit(url)
        usable = not url or (address.scheme in ("http", "https") and address.hostname and address.port != 0)
    except ValueError:
        usable = False
    if not usable:  # not shown: it may hold a password
        raise DataError("OPENAI_BASE_URL is not an address such as https://host:port/v1")


def _store(task: Task, settings: "Paraphrase") -> Path:
    """Where accepted candidates wait.

    One folder for each instruction, labels, model, temperature, endpoint and request text.
    """
    endpoint = os.environ.get("OPENAI_BASE_URL", "")
    asked = [request_text(task, 0, 0), task.name, settings.model, settings.temperature, endpoint]
    return cache_folder() / "paraphrases" / sha256_json(asked)


@dataclass
class _Collection:
    """The candidates accepted so far, by slot: the text, and why earlier answers for it were rejected.

    Every method may be called from any thread.
    """

    task: Task
    settings: "Paraphrase"
    store: Path
    accepted: dict[int, dict[str, Any]] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    asked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        kept: dict[int, dict[str, Any]] = {}  # of an earlier run, whatever its count was
        for path in self.store.glob("*.json"):
            try:
                one = read_json(path)
                kept[int(path.stem)] = {
                    "text": one["text"],
                    "rejected": [str(reason) for reason in one["rejected"]],
                }
            except (DataError, ValueError, TypeError, KeyError):
                path.unlink(missing_ok=True)  # damaged: asked for again
        beyond = [kept[slot] for slot in sorted(kept) if slot >= self.settings.count]
        for slot in range(self.settings.count):
            if slot in kept:
                self.offer(slot, kept[slot]["text"], kept[slot]["rejected"])
        for slot, one in zip(self.missing(), beyond, strict=False):
            self.offer(slot, one["text"], one["rejected"])

    def missing(self) -> list[int]:
        return [slot for slot in range(self.settings.count) if slot not in self.accepted]

    def offer(self, slot: int, text: object, rejected: Sequence[str]) -> list[str]:
        """Take the text for the slot, and keep it on disk, unless it has faults, which are returned."""
        with self.lock:
            if text is None:
                return ["it is missing or cut off"]
            if isinstance(text, str) and masked(text) != text:
                return ["it repeats the key"]
            accepted = [one["text"] for one in self.accepted.values()]
            found = faults(text, self.task.instruction, self.task.labels, accepted)
            if not found:
                self.accepted[slot] = {"text": text, "rejected": list(rejected)}
                write_json(self.store / f"{slot}.json", self.accepted[slot])
        return found

    def reject(self, reason: str) -> None:
        with self.lock:
            self.rejected.append(reason)


def _ask_all(collection: _Collection, slots: list[int], key: str) -> None:
    from openai import OpenAI

    settings = collection.settings
    with (
        OpenAI(api_key=key, max_retries=RETRIES, timeout=TIMEOUT) as client,
        tqdm(
            total=settings.count,
            initial=settings.count - len(slots),
            desc=f"{collection.task.name}: paraphrases",
        ) as bar,
        ThreadPoolExecutor(settings.concurrency) as pool,
    ):
        running = [pool.submit(_ask_for_one, client, collection, slot, bar) for slot in slots]
        try:
            for one in running:
                one.result()
        finally:
            collection.stop.set()
            for one in running:
                one.cancel()


def _ask_for_one(client: "OpenAI", collection: _Collection, slot: int, bar: Any) -> None:
    """Ask until a candidate for the slot passes the checks, at most TRIES times."""
    import openai

    settings = collection.settings
    reasons: list[str] = []
    rejected: list[str] = []
    for attempt in range(TRIES):
        if collection.stop.is_set():
            return
        question = request_text(collection.task, slot, attempt, reasons)
        with collection.lock:
            collection.asked += 1
        try:
            answer = client.chat.completions.create(
                model=settings.model,
                messages=[{"role": "user", "content": question}],
                temperature=settings.temperature,
            )
            reasons = collection.offer(slot, answer_text(answer), rejected)
        except (openai.APIResponseValidationError, ValueError):
            reasons = ["the answer is not valid JSON"]
        except openai.APIError as error:  # after the client's own repeats
            collection.stop.set()
            status = getattr(error, "status_code", None)
            said = masked(f"{f'status {status}: ' if status else ''}{error.message}")
            raise DataError(
                f"{collection.task.name}: no answer from the endpoint ({said:.400}). Check OPENAI_API_KEY, "
                f"OPENAI_BASE_URL and paraphrase.model = {settings.model}, then run again: "
                f"the {len(collection.accepted)} accepted are kept"
            ) from None
        if not reasons:
            bar.update()
            return
        rejected.append("; ".join(reasons))
        collection.reject(rejected[-1])


def answer_text(answer: Any) -> str | None:
    """The paraphrase in a chat completion, without reasoning block or quotes; None if missing or cut off."""
    try:  # the client does not check what a server sends
        text, ending = answer.choices[0].message.content, answer.choices[0].finish_reason
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    if not isinstance(text, str) or ending == "length":
        return None
    text = THINKING.sub("", text).replace("\r\n", "\n").strip()
    if len(text) > 1 and QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text
