"""The text in what an OpenAI-compatible server sends back, or why there is none and whether to ask again."""

import json
import re
from typing import Any

from sapo.candidates.checks import normalised
from sapo.candidates.unwrap import THOUGHT, UNFINISHED, unwrapped
from sapo.runtime.keys import masked

# What asking again cannot change, in an error's code, type or, where it has neither, its message
LASTING = re.compile(
    r"auth|api.?key|permission|forbidden|not.?found|not exist|unknown model|no such|unsupported"
    r"|invalid.?request"
    r"|context.?length|max.?(?:completion.?)?tokens|content.?(?:filter|policy|management)|moderation",
    re.IGNORECASE,
)
UNPAID = re.compile(
    r"insufficient.?(?:quota|balance|credit|funds)|billing|credit balance|out of credits?"
    r"|exceeded your current quota|payment required|no more credit",
    re.IGNORECASE,
)
RETRY_SOON = re.compile(r"(?:try again|retry) (?:in|after) \d", re.IGNORECASE)
BUSY = re.compile(r"rate.?limit|too.?many.?requests|overloaded|resource.?exhausted|capacity", re.IGNORECASE)


class NoTextError(Exception):
    """An answer without a text that can be used: asking again may help."""


class FinalError(Exception):
    """An answer that asking again cannot change. advice: what to do, where it is not the usual."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class BusyError(Exception):
    """The server says that it is asked too much. wait: seconds that it wants, if it says so."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def read_answer(content: bytes, kind: str) -> str:
    """The text of a chat completion whose Content-Type is `kind`.

    Raises NoTextError, FinalError or BusyError, with the server's own words where it has some.
    """
    if "html" in kind:
        raise FinalError("it sends a web page, not JSON", "Check OPENAI_BASE_URL: most end in /v1")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise NoTextError("the answer is not valid JSON") from None
    choices = _of(body, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    for error in (_of(body, "error"), _of(choice, "error"), None if choices else _bare_error(body)):
        if error:
            raise _reported(error)
    return _text(_of(choice, "message"), _of(choice, "finish_reason"))


def _of(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, dict) else None


def _bare_error(body: Any) -> Any:
    """An error that is not under `error`, as some servers send it."""
    return body if _of(body, "object") == "error" or _of(body, "message") else _of(body, "detail")


def _text(message: Any, finish: Any) -> str:
    content, refusal = _of(message, "content"), _of(message, "refusal")
    text, others = _joined(content)
    says_something = text is not None and normalised(unwrapped(text)) != ""
    if finish == "content_filter":
        raise FinalError(
            "its content filter stops the answer",
            "Choose another paraphrase.model, or another paraphrase.source",
        )
    if refusal:
        raise NoTextError(f"the model refuses: {shown(refusal)}")
    if finish == "length":
        if says_something:
            raise NoTextError("it is cut off at the server's limit of tokens")
        raise FinalError(
            "the server's limit of tokens ends it before its text begins (a model that thinks first?)",
            "Raise the limit there, turn thinking off, or choose another paraphrase.model",
        )
    if text is not None and says_something:
        return text
    if _of(message, "tool_calls") or _of(message, "function_call"):
        raise NoTextError("it calls a tool instead of answering")
    if others:
        raise NoTextError(f"it holds no text, only {', '.join(others):.80}")
    thought = THOUGHT.search(text or "") or UNFINISHED.search(text or "")
    if _of(message, "reasoning_content") or _of(message, "reasoning") or thought:
        raise NoTextError("it holds no text, only thinking")
    if text is not None:
        raise NoTextError("it is empty")
    raise NoTextError("it holds no text" if isinstance(message, dict) else "it holds no message")


def _joined(content: Any) -> tuple[str | None, list[str]]:
    """The text of a message's content, None without any, and the kinds of its parts that hold none."""
    if isinstance(content, str):
        return content, []
    texts, others = [], []
    for part in content if isinstance(content, list) else []:
        kind = str(_of(part, "type"))
        text = part if isinstance(part, str) else _of(part, "text")
        text = text if isinstance(text, str) else _of(text, "value")
        if isinstance(text, str) and not re.search("think|reason", kind):
            texts.append(text)
        else:
            others.append(kind)
    return "".join(texts) if texts else None, sorted(set(others))


def _reported(error: Any) -> Exception:
    """An error within an answer of status 200, as the exception that says whether to ask again."""
    code = _of(error, "code") or _of(error, "status") or _of(error, "type")
    status = int(code) if re.fullmatch("[0-9]{3}", str(code)) else None
    return failure(status, error) or NoTextError(f"the server reports an error: {shown(error)}")


def failure(status: int | None, error: Any, wait: float | None = None) -> Exception | None:
    """What an error of a server means: BusyError, FinalError, or None where it may be a passing fault.

    status: of HTTP, or what the error says instead. wait: seconds after which the server wants to be asked
    again.
    """
    said = shown(error, status)
    named = " ".join(str(_of(error, name) or "") for name in ("code", "type", "status"))
    whole = f"{named} {_message(error)}"
    if (
        status == 402
        or (UNPAID.search(whole) and not (wait or RETRY_SOON.search(whole)))
        or "insufficient_quota" in named
    ):
        return FinalError(
            said, "The account that OPENAI_API_KEY belongs to has no quota or credit left: see its billing"
        )
    if status in (429, 503, 529) or (status in (None, 200) and BUSY.search(whole)):
        return BusyError(said, wait)
    if status is not None and status != 200:
        return None if status >= 500 or status in (408, 409, 425) else FinalError(said)
    return FinalError(said) if LASTING.search(named.strip() or whole) else None


def _message(error: Any) -> str:
    found = _of(error, "message") or _of(error, "detail") or _of(error, "msg")
    return str(found if found is not None else error)


def shown(error: Any, status: int | None = None) -> str:
    """The server's own words, without keys, at most 300 characters."""
    said = " ".join(masked(_message(error)).split())
    return f"status {status}: {said:.300}" if status else f"{said:.300}"
