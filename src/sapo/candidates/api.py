"""Paraphrases from a language model behind any OpenAI-compatible endpoint, each checked before it is kept.

Key and address come from the environment alone (OPENAI_API_KEY, OPENAI_BASE_URL) and are never written
anywhere.
"""

import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapo.artifacts.candidates import Asked
from sapo.artifacts.task import Task
from sapo.candidates.answer import FinalError, NoTextError
from sapo.candidates.checks import DUPLICATE, faults, normalised
from sapo.candidates.endpoint import EndedError, Endpoint, connect
from sapo.candidates.remarks import remarks
from sapo.candidates.request import request_text
from sapo.candidates.unwrap import unwrapped
from sapo.runtime.cache import cache_folder
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json, sha256_json
from sapo.runtime.keys import masked
from sapo.runtime.outputs import write_json
from sapo.runtime.progress import progress

if TYPE_CHECKING:
    from sapo.config import Paraphrase

TRIES = 5  # questions for one candidate before it is given up; also answers in a row that hold no text
REPEATS = 10  # answers in a row, for whatever candidates, that were given before: no new ones will come


def from_api(task: Task, settings: "Paraphrase") -> tuple[list[str], Asked]:
    """`settings.count` paraphrases, and how they came to be.

    That is: model, temperature, questions asked, answers rejected and why. Accepted ones are kept under the
    cache folder: neither a crash nor more rows nor a higher count pays for any twice. Raises DataError
    without a key, for a request that the endpoint refuses, or when too few candidates pass the checks.
    """
    collection = _Collection(task, settings, _store(task, settings))
    if missing := collection.missing():
        _ask_all(collection, missing)
    if missing := collection.missing():
        raise DataError(collection.too_few(settings.count - len(missing)))
    chosen = [collection.accepted[slot] for slot in range(settings.count)]
    rejected = Counter(reason for one in chosen for reason in one["rejected"])
    asked = Asked(
        model=settings.model,
        style=settings.style,
        temperature=settings.temperature,
        asked=len(chosen) + rejected.total(),
        rejected=dict(rejected),
    )
    return [one["text"] for one in chosen], asked


def _store(task: Task, settings: "Paraphrase") -> Path:
    """Where accepted candidates wait.

    One folder for each instruction, labels, model, temperature, endpoint and request text, which the style
    decides.
    """
    endpoint = os.environ.get("OPENAI_BASE_URL", "")
    question = request_text(task, 0, 0, style=settings.style)
    asked = [question, task.name, settings.model, settings.temperature, endpoint]
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
    kept: int = 0  # of those accepted, from an earlier run
    given: set[str] = field(default_factory=set)  # all texts answered so far
    repeats: int = 0  # in a row
    without_text: int = 0  # in a row
    lock: threading.Lock = field(default_factory=threading.Lock)

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
        self.kept, self.repeats = len(self.accepted), 0

    def missing(self) -> list[int]:
        return [slot for slot in range(self.settings.count) if slot not in self.accepted]

    def offer(self, slot: int, text: object, rejected: Sequence[str]) -> list[str]:
        """Take the text for the slot, and keep it on disk, unless it has faults, which are returned.

        What wraps all of it is removed.
        """
        with self.lock:
            self.without_text = 0
            if isinstance(text, str):
                text = unwrapped(text, self.task.instruction)
                self.repeats = self.repeats + 1 if normalised(text) in self.given else 0
                self.given.add(normalised(text))
                if masked(text) != text:
                    return ["it repeats the key"]
            accepted = [one["text"] for one in self.accepted.values()]
            found = faults(text, self.task.instruction, self.task.labels, accepted)
            if isinstance(text, str):
                found += remarks(text, self.task.instruction, self.task.labels)
            if not found:
                self.accepted[slot] = {"text": text, "rejected": list(rejected)}
                write_json(self.store / f"{slot}.json", self.accepted[slot])
        return found

    def no_text(self, why: NoTextError) -> list[str]:
        """Why there is no text, for the next question. Raises FinalError after TRIES such answers."""
        with self.lock:
            self.without_text += 1
            if self.without_text >= TRIES:
                raise FinalError(f"{TRIES} answers in a row hold no text: {why}")
        return [str(why)]

    def reject(self, reason: str) -> bool:
        """Keep the reason. Returns whether asking on makes no sense: the server only repeats itself."""
        with self.lock:
            self.rejected.append(reason)
            return self.repeats >= REPEATS

    def too_few(self, usable: int) -> str:
        """The message when all tries are used up."""
        settings, counts = self.settings, Counter(self.rejected)
        reasons = "\n".join(f"  {count} x {reason}" for reason, count in counts.most_common(8))
        advice = "choose another paraphrase.model, or lower paraphrase.count"
        if 2 * sum(count for reason, count in counts.items() if DUPLICATE in reason) >= counts.total():
            advice = f"raise paraphrase.temperature (now {settings.temperature:g}), or " + (
                "use paraphrase.style=manners" if settings.style == "plain" else advice
            )
        return (
            f"{self.task.name}: {settings.model} gave {usable} of {settings.count} usable paraphrases in "
            f"{len(self.accepted) - self.kept + counts.total()} answers. Rejected:\n{reasons}.\n"
            f"Those accepted are kept: run again for the rest, {advice}"
        )


def _ask_all(collection: _Collection, slots: list[int]) -> None:
    settings = collection.settings
    with (
        connect() as client,
        progress(
            f"{collection.task.name}: paraphrases", settings.count, "text", settings.count - len(slots)
        ) as bar,
        ThreadPoolExecutor(settings.concurrency) as pool,
    ):
        endpoint = Endpoint(client, settings, bar.note)
        running = [pool.submit(_ask_for_one, endpoint, collection, slot, bar) for slot in slots]
        try:
            for one in running:
                one.result()
        finally:
            endpoint.pace.end()
            for one in running:
                one.cancel()


def _ask_for_one(endpoint: Endpoint, collection: _Collection, slot: int, bar: Any) -> None:
    """Ask until a candidate for the slot passes the checks, at most TRIES times."""
    settings = collection.settings
    reasons: list[str] = []
    rejected: list[str] = []
    for attempt in range(TRIES):
        question = request_text(collection.task, slot, attempt, reasons, settings.style)
        try:
            try:
                reasons = collection.offer(slot, endpoint.ask(question), rejected)
            except NoTextError as error:
                reasons = collection.no_text(error)
        except EndedError:
            return
        except FinalError as error:
            endpoint.pace.end()
            advice = error.advice or (
                f"Check OPENAI_API_KEY, OPENAI_BASE_URL and paraphrase.model = {settings.model}"
            )
            raise DataError(
                f"{collection.task.name}: no answer from the endpoint ({error}). {advice}, then run again: "
                f"the {len(collection.accepted)} accepted are kept"
            ) from None
        if not reasons:
            bar.update()
            return
        rejected.append("; ".join(reasons))
        if collection.reject(rejected[-1]):
            endpoint.pace.end()
            return
