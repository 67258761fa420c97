"""An OpenAI-compatible endpoint on loopback that answers as a test's script says, and keeps every request."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

PATIENCE = 20.0  # seconds after which a request that waits for something gives up


@dataclass(frozen=True)
class Request:
    """number: from 0, since the record was begun or cleared. headers: by names in lower case. body: JSON."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def question(self) -> str:
        """What the user's only message says."""
        [message] = self.body["messages"]
        assert message["role"] == "user"
        return message["content"]


@dataclass(frozen=True)
class Answer:
    """What goes back over the wire.

    promised: the Content-Length where it is not the body's own; the connection is cut then.
    hang_up: nothing is sent. after: seconds that pass first, or fewer when the server ends.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    promised: int | None = None
    hang_up: bool = False
    after: float = 0.0


Script = Callable[[Request], Answer | None]
HANG_UP = Answer(hang_up=True)
STALL = Answer(hang_up=True, after=PATIENCE)


def choices(found: Any) -> Answer:
    """A chat completion with these choices, which need not be any."""
    content = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": found}
    return Answer(body=json.dumps(content).encode())


def completion(text: str | None, finish: str = "stop") -> Answer:
    """The language model says `text`."""
    message = {"role": "assistant", "content": text}
    return choices([{"index": 0, "finish_reason": finish, "message": message}])


def message(**parts: Any) -> Answer:
    """A chat completion with these parts of a message; `finish` is how it ended."""
    finish = parts.pop("finish", "stop")
    return choices([{"index": 0, "finish_reason": finish, "message": {"role": "assistant"} | parts}])


def refusal(status: int, message: str = "refused", code: str | None = None, **headers: str) -> Answer:
    """An error as OpenAI words it; an underscore in a header's name becomes a hyphen."""
    content = {"error": {"message": message, "type": "wrong", "code": code}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(content).encode(), named)


class OpenAIServer(ThreadingHTTPServer):
    """Runs within a `with` block. A request gets what `script` makes of it or, where that is None, `usual`.

    Both are called in the request's own thread, where they may wait; an error in them cuts the connection.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, usual: Script, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Handler)
        self.usual = usual
        self.script: Script = lambda request: None
        self.requests: list[Request] = []
        self.held, self.most_held = 0, 0  # requests that wait for their answer
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def address(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_port}"

    @property
    def url(self) -> str:
        """What OPENAI_BASE_URL has to be."""
        return f"{self.address}/v1"

    @property
    def bodies(self) -> list[Any]:
        return [request.body for request in self.requests]

    def forget(self) -> None:
        """Clear the record: the next request is number 0."""
        with self._lock:
            self.requests.clear()
            self.most_held = 0

    def always(self, answer: Answer) -> None:
        self.script = lambda request: answer

    def first(self, *answers: Answer | None) -> None:
        """Let the next requests get these answers, and every further one the usual."""
        begin = len(self.requests)
        self.script = lambda request: (
            answers[request.number - begin] if request.number - begin < len(answers) else None
        )

    def dies_after(self, lived: int, last: Answer) -> None:
        """Let the next `lived` requests get the usual answer, and every further one `last`."""
        begin = len(self.requests)
        self.script = lambda request: None if request.number - begin < lived else last

    def lets_through(self, most: int, seconds: float, refused: Answer) -> None:
        """Give `most` requests in any span of so many seconds the usual answer, and others `refused`."""
        passed: list[float] = []

        def limited(_: Request) -> Answer | None:
            with self._lock:
                now = time.monotonic()
                if sum(now - before < seconds for before in passed) >= most:
                    return refused
                passed.append(now)
                return None

        self.script = limited

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer:
        with self._lock:
            request = Request(len(self.requests), method, path, headers, body)
            self.requests.append(request)
            self.held += 1
            self.most_held = max(self.held, self.most_held)
        try:
            answer = self.script(request) or self.usual(request)
            assert answer is not None
            if answer.after:
                self.over.wait(answer.after)
            return answer
        finally:
            with self._lock:  # before the answer goes out: then its client may send the next request
                self.held -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: OpenAIServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        self.reply()

    def do_HEAD(self) -> None:
        self.reply()

    def do_POST(self) -> None:
        self.reply()

    def reply(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.answer(
            self.command, self.path, headers, json.loads(content) if content else None
        )
        if answer.hang_up:
            self.close_connection = True
            return
        self.send_response(answer.status)
        length = len(answer.body) if answer.promised is None else answer.promised
        usual = {"Content-Type": "application/json", "Content-Length": str(length)}
        for name, value in (usual | dict(answer.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.close_connection |= answer.promised is not None

    def log_message(self, *_: object) -> None:
        pass


def connect(monkeypatch: pytest.MonkeyPatch, url: str, key: str, cache: Path) -> None:
    """Have the environment name the endpoint, the key and a folder for what is kept, and no proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("SAPO_CACHE", str(cache))
