"""Faults of candidates that a language model writes."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from faulty import refuses, tell_apart
from sapo.artifacts.task import Task
from sapo.candidates.api import from_api
from sapo.candidates.checks import faults
from sapo.config import Paraphrase


class Refusing(BaseHTTPRequestHandler):
    """An endpoint that refuses every request and keeps its body."""

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))  # type: ignore[attr-defined]
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_fault_17_a_failed_call_is_an_error_and_a_bad_answer_no_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(
        "reviews", 'Is it "good" or "bad"? One word.', "Answer:", ["good", "bad"], "en", 8, {}, [], []
    )
    settings = Paraphrase(
        source="api", count=2, path="-", model="m", style="manners", temperature=0.7, concurrency=1
    )
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def empty_where_it_failed() -> list[str]:
        from openai import OpenAI, OpenAIError

        found = []
        for _ in range(settings.count):
            try:
                with OpenAI(max_retries=0) as client:
                    client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": task.instruction}]
                    )
            except OpenAIError:
                found.append("")
        return found

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.bodies = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")

        def check(source: Callable[[], Any]) -> None:
            assert refuses(source)

        def check_request(source: Callable[[], Any]) -> None:
            server.bodies.clear()  # type: ignore[attr-defined]
            refuses(source)
            assert server.bodies  # type: ignore[attr-defined]
            for body in server.bodies:  # type: ignore[attr-defined]
                assert body.get("temperature") == 0.7
                assert task.instruction in body["messages"][0]["content"]  # its quotes are not escaped

        tell_apart(check, lambda: from_api(task, settings), empty_where_it_failed)
        tell_apart(check_request, lambda: from_api(task, settings), empty_where_it_failed)
        server.shutdown()

    def check_answers(faults_of: Callable[..., list[str]]) -> None:
        kept = "Say whether it is good or bad."
        assert not faults_of(kept, task.instruction, task.labels, [])
        for bad in ("", kept.upper().lower(), kept.replace("bad", "poor"), task.instruction):
            assert faults_of(bad, task.instruction, task.labels, [kept]), bad

    tell_apart(check_answers, faults, lambda *_: [])
