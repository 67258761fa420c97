"""A language model's answers are checked before they are kept. A real server on this machine gives good and wrong ones."""

import json
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from paraphrase import paraphrase
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json
from sapo.runtime.outputs import write_json
from sapo.config import Paraphrase
from sapo.candidates import api
from sapo.candidates.api import TRIES, from_api
from sapo.candidates.checks import faults, normalised
from sapo.artifacts.task import Example, Task, save_task

REPOSITORY = Path(__file__).parents[3]
KEY = "sk-canary-8d3f0a71c52e4b96"
WAIT = 20.0  # seconds after which a test that hangs fails
INSTRUCTION = 'Is the {review} below "positive" or "negative"? {{Think}} of {0}, 100% of it \\n, and answer with \'one\' word.'
REVIEWS = Task("reviews", INSTRUCTION, "Answer:", ["positive", "negative", "mixed"], "en", 8, {}, [], [])
CHINESE = "判断以下文本对指定对象的态度，选择一项，不要解释：输出A，B或者C。"
STANCES = Task("stances", CHINESE, "回答：", ["A", "B", "C"], "zh", 8, {}, [], [])


@dataclass
class Answer:
    """What goes back over the wire; `promised` is the Content-Length when it is not the body's own."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    promised: int | None = None
    hang_up: bool = False


def choices(found: Any) -> Answer:
    completion = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": found}
    return Answer(body=json.dumps(completion).encode())


def says(text: str | None, finish: str = "stop") -> Answer:
    return choices([{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}])


def good(number: int) -> str:
    """A paraphrase that passes the checks of both tasks, another one for every number."""
    return f"For reader {number}: which fits, positive or negative?（A，B或者C） One word is enough."


def error(status: int, message: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps({"error": {"message": message, "type": "wrong", "code": None}}).encode(), named)


WHOLE = says(good(900))
HALF = Answer(body=WHOLE.body[: len(WHOLE.body) // 2])
CUT = Answer(body=HALF.body, promised=len(WHOLE.body))
SOON = {"retry_after_ms": "1"}

Script = Callable[[int], Answer | None]


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def question(self) -> str:
        [message] = self.body["messages"]
        assert message["role"] == "user"
        return message["content"]


class Endpoint(ThreadingHTTPServer):
    """Answers request number n, from 0, with `script(n)`, and with a good paraphrase where that is None."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: Script = lambda number: None
        self.requests: list[Request] = []
        self.held, self.most_held = 0, 0
        self.lock, self.over = threading.Lock(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def first(self, *answers: Answer | None) -> None:
        """Let the next requests get these answers, and every further one a good one."""
        begin = len(self.requests)
        self.script = lambda number: answers[number - begin] if number - begin < len(answers) else None

    def always(self, answer: Answer) -> None:
        self.script = lambda number: answer

    def dies_after(self, lived: int, last: Answer) -> None:
        begin = len(self.requests)
        self.script = lambda number: None if number - begin < lived else last

    def answer(self, request: Request) -> Answer:
        with self.lock:
            number = len(self.requests)
            self.requests.append(request)
            self.held += 1
            self.most_held = max(self.held, self.most_held)
        answer = self.script(number)
        with self.lock:  # before the answer goes out: then its client may send the next request
            self.held -= 1
        return says(good(number)) if answer is None else answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.answer(Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        if answer.hang_up:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) if answer.promised is None else answer.promised))
        self.end_headers()
        self.wfile.write(answer.body)
        self.close_connection = answer.promised is not None

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A healthy server, with the environment pointing at it and the cache in `cache`."""
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("SAPO_CACHE", str(tmp_path / "cache"))
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def wanted(count: int, concurrency: int = 1, **others: Any) -> Paraphrase:
    settings = {"path": "unused", "model": "some-model", "temperature": 0.6} | others
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


# what is kept


def test_all_good_answers_are_kept_as_they_are(endpoint: Endpoint, tmp_path: Path) -> None:
    texts, about = from_api(REVIEWS, wanted(4))
    assert texts == [good(number) for number in range(4)]
    assert about == {"model": "some-model", "temperature": 0.6, "asked": 4, "rejected": {}}
    check(texts, 4)
    assert [read_json(path)["text"] for path in stored(tmp_path)] == texts


@pytest.mark.parametrize("concurrency", [1, 8])
def test_fault_08_paraphrasing_asks_once_for_each_candidate(endpoint: Endpoint, concurrency: int) -> None:
    texts, about = from_api(REVIEWS, wanted(20, concurrency))
    assert len(endpoint.requests) == about["asked"] == 20
    check(texts, 20)


@pytest.mark.parametrize(
    "text",
    [
        good(1),
        "Would {reader} say {0} {{twice}} that it is positive or negative, 100% %s?",
        "<b>Say</b> <script>alert('positive')</script> or <i>negative</i> & nothing <else>.",
        '"positive" or "negative": which of the two words is right here?',
        "\u201cpositive\u201d or \u201cnegative\u201d? Pick the one that fits it best.",
        '"positive" where the reader liked it, and the other word where not: "negative"',
        "\u201cpositive\u201d where the reader liked it, and the other word where not: \u201cnegative\u201d",
        "In two steps:\n\t1. read it;\n\t2. answer positive or negative.",
        "是 positive 还是 negative？请只回答其中一个词，不要解释，也不要加任何标点。 (Only one word, no more than that.)",
        "Is it \\positive\\ or /negative/? \U0001f642 Naïve readers may also ask.",
    ],
)
def test_fault_17_braces_quotes_and_markup_in_an_answer_are_kept(endpoint: Endpoint, text: str) -> None:
    endpoint.first(says(text))
    texts, about = from_api(REVIEWS, wanted(1))
    assert texts == [text]
    assert about["rejected"] == {}


@pytest.mark.parametrize(
    "around",
    [
        '"{}"',
        "\u201c{}\u201d",
        "\u300c{}\u300d",
        '\n " {} " \n',
        "<think>positive? negative?\n{{}}</think>\n\n{}",
        '  <think></think>"{}"\n',
    ],
)
def test_fault_17_quotes_and_a_reasoning_block_around_an_answer_are_removed(endpoint: Endpoint, around: str) -> None:
    endpoint.first(says(around.format(good(0))))
    assert from_api(REVIEWS, wanted(1))[0] == [good(0)]


# what is not


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (says(""), "it is empty"),
        (says(" \n\t"), "it is empty"),
        (says("<think>which one?</think>"), "it is empty"),
        (says('""'), "it is empty"),
        (says(INSTRUCTION), "it is the original"),
        (says(f'"{INSTRUCTION.upper()}"'), "it is the original; it lacks the labels positive, negative"),
        (says(good(900).replace("positive", "good")), "it lacks the labels positive"),
        (
            says(good(900).replace("positive", "Positive").replace("negative", "negatives")),
            "it lacks the labels positive, negative",
        ),
        (says("positive, negative"), "its length of 18 characters is too far from the original's 108"),
        (says(f"{good(900)} Indeed." * 8), "its length of 680 characters is too far from the original's 108"),
        (says(f"{good(900)}<|im_end|>"), "it holds a control token of a chat template"),
        (says(f"<think>It is cut off here. {good(900)}"), "it holds a control token of a chat template"),
        (says(f"{good(900)}\x1b[0m"), "it holds a control character"),
        (says(good(900), finish="length"), "it is missing or cut off"),
        (says(None), "it is missing or cut off"),
        (choices([]), "it is missing or cut off"),
        (choices(None), "it is missing or cut off"),
        (choices([{"index": 0, "finish_reason": "stop", "message": None}]), "it is missing or cut off"),
        (choices([{}]), "it is missing or cut off"),
        (Answer(body=b"{}"), "it is missing or cut off"),
        (Answer(body=b"null"), "it is missing or cut off"),
        (Answer(body=b"[]"), "it is missing or cut off"),
        (Answer(body=b"<html>", headers={"Content-Type": "text/html"}), "it is missing or cut off"),
        (HALF, "the answer is not valid JSON"),
        (Answer(body=b""), "the answer is not valid JSON"),
        (Answer(body=WHOLE.body.replace(b"reader", b"\xff\xfe")), "the answer is not valid JSON"),
    ],
)
def test_fault_17_an_answer_that_cannot_be_used_is_recorded_and_asked_for_again(
    endpoint: Endpoint, bad: Answer, reason: str
) -> None:
    endpoint.first(None, bad)
    texts, about = from_api(REVIEWS, wanted(3))
    assert texts == [good(0), good(2), good(3)]
    assert (about["asked"], about["rejected"]) == (4, {reason: 1})
    assert [reason in request.question for request in endpoint.requests] == [False, False, True, False]


def test_fault_17_a_duplicate_of_an_accepted_answer_is_asked_for_again(endpoint: Endpoint) -> None:
    endpoint.first(None, None, says(good(0).upper().lower()), says(good(0).replace(" ", "  ")), says(f'"{good(1)}"'))
    texts, about = from_api(REVIEWS, wanted(3))
    assert texts == [good(0), good(1), good(5)]
    assert about["rejected"] == {"it is a duplicate": 3}
    check(texts, 3)


def test_fault_17_duplicates_that_arrive_at_the_same_time_are_told(endpoint: Endpoint) -> None:
    together = threading.Barrier(4)

    def four_at_once(number: int) -> Answer | None:
        if number >= 4:
            return None
        together.wait(WAIT)
        return says(good(0))

    endpoint.script = four_at_once
    texts, about = from_api(REVIEWS, wanted(4, concurrency=4))
    check(texts, 4)
    assert about["rejected"] == {"it is a duplicate": 3}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_fault_17_too_few_usable_answers_are_an_error_that_says_how_many_and_why(endpoint: Endpoint, concurrency: int) -> None:
    wrong = [says(""), says(good(900).replace("negative", "bad")), says(INSTRUCTION)]
    endpoint.script = lambda number: None if number == 0 else wrong[number % 3]
    message = fail(wanted(3, concurrency))
    assert len(endpoint.requests) == 1 + 2 * TRIES
    assert message.startswith(f"reviews: some-model gave 1 of 3 usable paraphrases in {1 + 2 * TRIES} answers. Rejected:\n")
    told = {reason: int(count) for count, reason in re.findall(r"^  (\d+) x (.*)$", message, re.MULTILINE)}
    assert told.keys() == {"it is empty", "it lacks the labels negative", "it is the original"}
    assert sum(told.values()) == 2 * TRIES


def test_fault_17_a_candidate_is_asked_for_a_bounded_number_of_times(endpoint: Endpoint) -> None:
    endpoint.script = lambda number: None if number == 0 else says(good(0))
    message = fail(wanted(2))
    assert len(endpoint.requests) == 1 + TRIES
    assert f"  {TRIES} x it is a duplicate\n" in message


# what is asked


def test_fault_17_model_and_temperature_reach_the_endpoint(endpoint: Endpoint) -> None:
    for settings in (wanted(2, temperature=0.0), wanted(1, model="org/other:8b", temperature=1.75)):
        endpoint.requests.clear()
        about = from_api(REVIEWS, settings)[1]
        for request in endpoint.requests:
            assert request.path == "/v1/chat/completions"
            assert request.headers["authorization"] == f"Bearer {KEY}"
            assert (request.body["model"], request.body["temperature"]) == (settings.model, settings.temperature)
        assert (about["model"], about["temperature"]) == (settings.model, settings.temperature)


@pytest.mark.parametrize("task", [REVIEWS, STANCES], ids=lambda task: task.name)
def test_fault_02_an_instruction_with_braces_and_quotes_reaches_the_request_unchanged(endpoint: Endpoint, task: Task) -> None:
    for around in ("{}", '{{}}{{}}{{0}} "quoted" \\"{} %s %(x)s ${{x}} <b>&amp;</b> \\u0041'):
        changed = replace(task, instruction=around.format(task.instruction))
        endpoint.first(says(""))
        check(from_api(changed, wanted(2))[0], 2, changed)
        assert all(changed.instruction in request.question for request in endpoint.requests[-3:])


def test_fault_17_the_labels_are_named_in_every_request(endpoint: Endpoint) -> None:
    endpoint.first(says(""))
    from_api(REVIEWS, wanted(2))
    for request in endpoint.requests:
        assert "Keep these labels exactly as they are spelt: positive, negative." in request.question  # "mixed" is not in it


def test_every_candidate_is_asked_for_in_another_manner(endpoint: Endpoint) -> None:
    from_api(REVIEWS, wanted(8))
    assert len({request.question for request in endpoint.requests}) == 8


def test_a_chinese_task_is_asked_for_in_chinese(endpoint: Endpoint) -> None:
    chinese = "请选择态度，{}：从A，B或者C里选一项输出。"
    endpoint.first(says(chinese.format("先读文本")), says(""), says(chinese.format("再做判断")))
    texts, about = from_api(STANCES, wanted(2))
    assert texts == [chinese.format("先读文本"), chinese.format("再做判断")]
    assert about["rejected"] == {"it is empty": 1}
    for request in endpoint.requests:
        assert "重写" in request.question
        assert "A、B、C" in request.question
        assert "Rewrite" not in request.question
    assert "it is empty" in endpoint.requests[2].question


# when there is no answer


@pytest.mark.parametrize(
    "passing",
    [
        error(429, "slow down", retry_after="0"),
        error(429, "slow down", **SOON),
        error(500, "a moment", **SOON),
        error(503, "a moment", **SOON),
        Answer(hang_up=True),
        CUT,
    ],
    ids=["429 now", "429 soon", "500", "503", "hang up", "cut body"],
)
def test_a_fault_that_passes_costs_nothing_but_a_repeat(endpoint: Endpoint, passing: Answer) -> None:
    endpoint.first(passing)
    texts, about = from_api(REVIEWS, wanted(2))
    assert texts == [good(1), good(2)]
    assert (about["asked"], about["rejected"]) == (2, {})
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("lasting", "requests", "told"),
    [
        (error(500, "out of order", **SOON), 3, ["status 500", "out of order"]),
        (error(429, "no quota left", **SOON), 3, ["status 429", "no quota left"]),
        (error(404, "there is no model some-model"), 1, ["status 404", "there is no model some-model"]),
        (error(400, "temperature must be 1"), 1, ["status 400", "temperature must be 1"]),
        (Answer(403, b"<html>blocked</html>", {"Content-Type": "text/html"}), 1, ["status 403"]),
    ],
)
def test_a_fault_that_lasts_ends_in_an_error_that_tells_it(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, lasting: Answer, requests: int, told: list[str]
) -> None:
    monkeypatch.setattr(api, "RETRIES", 2)
    endpoint.always(lasting)
    message = fail(wanted(4))
    assert len(endpoint.requests) == requests
    for part in ("reviews: no answer from the endpoint", "OPENAI_BASE_URL", "paraphrase.model = some-model", *told):
        assert part in message


@pytest.mark.parametrize("lasting", [Answer(hang_up=True), CUT], ids=["hang up", "cut body"])
def test_a_connection_that_breaks_every_time_is_an_error(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, lasting: Answer
) -> None:
    monkeypatch.setattr(api, "RETRIES", 0)
    endpoint.always(lasting)
    assert "reviews: no answer from the endpoint" in fail(wanted(2))
    assert len(endpoint.requests) == 1


def test_nobody_at_the_address_is_an_error(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "RETRIES", 0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # the port is taken, but nobody listens
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}/v1")
        assert "reviews: no answer from the endpoint" in fail(wanted(2))
    assert endpoint.requests == []


def test_a_server_that_stalls_is_asked_again_and_then_given_up(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def stall() -> None:
        endpoint.over.wait(WAIT)

    monkeypatch.setattr(api, "RETRIES", 1)
    monkeypatch.setattr(api, "TIMEOUT", 1.0)
    endpoint.script = lambda number: stall() if number == 0 else None
    assert from_api(REVIEWS, wanted(1))[0] == [good(1)]
    monkeypatch.setattr(api, "TIMEOUT", 0.3)
    endpoint.script = lambda number: stall()
    assert "timed out" in fail(wanted(2))
    assert len(endpoint.requests) == 4


# the key


def test_fault_17_a_refused_key_ends_it_at_once_and_is_written_nowhere(
    endpoint: Endpoint, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for padding in (0, 20, 330, 345, 360, 380):  # the message is cut: not within the key
        endpoint.requests.clear()
        endpoint.always(error(401, f"{'.' * padding} wrong key: Authorization: Bearer {KEY} (ends in {KEY}) is not ours"))
        message = fail(wanted(20, concurrency=4))
        assert "status 401" in message
        assert "OPENAI_API_KEY" in message
        assert KEY[:6] not in message
        assert 1 <= len(endpoint.requests) <= 4
    printed = capfd.readouterr()
    assert KEY[:6] not in printed.out + printed.err
    assert stored(tmp_path) == []


def test_neither_key_nor_address_is_kept_with_the_candidates(
    endpoint: Endpoint, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    address = endpoint.url.removeprefix("http://")
    endpoint.dies_after(3, error(401, "enough"))
    message = fail(wanted(4))
    held = [str(path).encode() + path.read_bytes() for path in stored(tmp_path)]
    assert len(held) == 3
    endpoint.first()
    written = repr(from_api(REVIEWS, wanted(4)))
    printed = capfd.readouterr()
    for text in (message, written, printed.out, printed.err, *map(bytes.decode, held)):
        assert KEY not in text
        assert address not in text


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_nothing_is_asked(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str | None
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    message = fail(wanted(2))
    assert "OPENAI_API_KEY" in message
    assert "paraphrase.source=bank" in message
    assert endpoint.requests == []
    assert stored(tmp_path) == []


# at the same time


@pytest.mark.parametrize(("count", "concurrency"), [(20, 8), (3, 8), (3, 1), (5, 2)])
def test_as_many_requests_as_allowed_are_under_way_and_no_more(endpoint: Endpoint, count: int, concurrency: int) -> None:
    most = min(count, concurrency)
    together = threading.Barrier(most)

    def meet(number: int) -> None:
        if number < most:
            together.wait(WAIT)  # broken, and so an error 500 or less, unless all of them are here at once
            time.sleep(0.05)  # one too many has the time to come

    endpoint.script = meet
    texts, _ = from_api(REVIEWS, wanted(count, concurrency))
    check(texts, count)
    assert endpoint.most_held == most
    assert len(endpoint.requests) == count


# after a crash


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("last", [error(401, "no more credit"), Answer(hang_up=True)], ids=["401", "hang up"])
def test_what_was_paid_for_before_a_crash_is_not_asked_for_again(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, concurrency: int, last: Answer
) -> None:
    monkeypatch.setattr(api, "RETRIES", 0)
    endpoint.dies_after(5, last)
    kept = "5" if concurrency == 1 else "[1-5]"  # several may be under way when it ends
    assert re.search(f"run again: the {kept} accepted are kept", fail(wanted(12, concurrency)))
    assert len(stored(tmp_path)) == 5
    endpoint.requests.clear()
    endpoint.script = lambda number: says(good(100 + number))
    texts, about = from_api(REVIEWS, wanted(12, concurrency))
    assert len(endpoint.requests) == 7
    assert about["asked"] == 12
    assert {good(number) for number in range(5)} < set(texts)
    check(texts, 12)
    endpoint.requests.clear()
    again = from_api(REVIEWS, wanted(12, concurrency))  # the stage is run again, for more rows or another concurrency
    assert (again, endpoint.requests) == ((texts, about), [])


def test_a_crash_after_the_last_answer_costs_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    fill(endpoint, 3)
    [folder] = (tmp_path / "cache" / "paraphrases").iterdir()
    write_json(folder / "3.json", {"text": good(3), "rejected": ["it is empty"]})
    endpoint.always(error(500, "gone"))
    texts, about = from_api(REVIEWS, wanted(4))
    assert texts == [good(number) for number in range(4)]
    assert (about["asked"], about["rejected"]) == (5, {"it is empty": 1})
    assert endpoint.requests == []


def fill(endpoint: Endpoint, number: int, settings: Paraphrase | None = None) -> None:
    """Keep so many accepted answers, all but the last that are wanted, and forget the requests."""
    endpoint.dies_after(number, error(401, "enough"))
    fail(settings or wanted(number + 1))
    endpoint.requests.clear()
    endpoint.script = lambda number: says(good(100 + number))


@pytest.mark.parametrize(
    "content", ["positive", good(0), INSTRUCTION, "", None, 3, [good(7)], f"{good(7)}</s>", good(7).replace("negative", "bad")]
)
def test_a_kept_candidate_that_no_longer_passes_the_checks_is_not_used(endpoint: Endpoint, tmp_path: Path, content: Any) -> None:
    fill(endpoint, 3)
    [edited] = (tmp_path / "cache").rglob("1.json")
    write_json(edited, {"text": content, "rejected": []})
    texts, _ = from_api(REVIEWS, wanted(4))
    assert texts == [good(0), good(100), good(2), good(101)]
    assert len(endpoint.requests) == 2


def test_a_half_written_candidate_is_not_used(endpoint: Endpoint, tmp_path: Path) -> None:
    fill(endpoint, 3)
    [kept] = (tmp_path / "cache").rglob("1.json")
    kept.rename(kept.with_name("1.json.partial"))  # a crash between writing and renaming
    texts, _ = from_api(REVIEWS, wanted(4))
    assert texts == [good(0), good(100), good(2), good(101)]


@pytest.mark.parametrize("content", [b"", b'"For reader', b"\xff\xfe", b"[]", b"3", b"{}", b'{"text": "For"}'])
def test_a_kept_candidate_that_is_no_json_is_asked_for_again(endpoint: Endpoint, tmp_path: Path, content: bytes) -> None:
    fill(endpoint, 3)
    [damaged] = (tmp_path / "cache").rglob("1.json")
    damaged.write_bytes(content)
    assert from_api(REVIEWS, wanted(4))[0] == [good(0), good(100), good(2), good(101)]


@pytest.mark.parametrize(
    ("task", "settings", "path"),
    [
        (REVIEWS, {"model": "another"}, "v1"),
        (REVIEWS, {"temperature": 0.61}, "v1"),
        (REVIEWS, {}, "v2"),
        (replace(REVIEWS, instruction=f"{INSTRUCTION} "), {}, "v1"),
        (replace(REVIEWS, labels=["positive"]), {}, "v1"),
        (replace(REVIEWS, name="films"), {}, "v1"),
        (replace(REVIEWS, language="zh"), {}, "v1"),
    ],
    ids=["model", "temperature", "endpoint", "instruction", "labels", "task", "language"],
)
def test_fault_03_another_question_does_not_get_the_kept_answers(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: Task, settings: dict[str, Any], path: str
) -> None:
    fill(endpoint, 3)
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url.replace("v1", path))
    texts, _ = from_api(task, wanted(4, **settings))
    assert texts == [good(100 + number) for number in range(4)]
    assert len(stored(tmp_path)) == 3 + 4
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    assert from_api(REVIEWS, wanted(4, concurrency=2))[0] == [good(0), good(1), good(2), good(104)]


def test_the_stage_records_where_its_candidates_come_from(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params["paraphrase"] |= {"source": "api", "count": 3, "model": "some-model", "concurrency": 2}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    name = params["sequence"]["last"]
    rows = [Example("Fine.", "positive")]
    monkeypatch.chdir(tmp_path)
    save_task(f"data/tasks/{name}", replace(REVIEWS, name=name, train=rows, test=rows))
    endpoint.first(says(""))
    paraphrase(name)
    content = json.loads((tmp_path / "data" / "paraphrases" / f"{name}.json").read_text(encoding="utf-8"))
    assert content["candidates"][0] == INSTRUCTION
    check(content["candidates"][1:], 3)
    told = {"source": "api", "model": "some-model", "temperature": 0.6, "asked": 4, "rejected": {"it is empty": 1}}
    assert content == {"task": name, "candidates": content["candidates"]} | told
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("found", ["abc", ["abc"], [None], {"0": {}}, [{"finish_reason": "stop", "message": "text"}]])
def test_fault_17_choices_of_another_shape_are_asked_for_again(endpoint: Endpoint, found: Any) -> None:
    endpoint.first(choices(found))
    assert from_api(REVIEWS, wanted(1))[0] == [good(1)]


def test_a_repeated_request_asks_for_another_manner_also_with_twenty_candidates(endpoint: Endpoint) -> None:
    endpoint.first(says(""), says(""))
    from_api(REVIEWS, wanted(20))
    manners = [
        re.findall(r"^Manner \(version [\d.]+\): (.*)$", request.question, re.MULTILINE)[0] for request in endpoint.requests[:3]
    ]
    assert len(set(manners)) == 3


def test_a_key_that_no_header_can_hold_is_named(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"\u201c{KEY}\u201d")
    assert "OPENAI_API_KEY" in fail(wanted(2))


@pytest.mark.parametrize("address", ["http://localhost:port/v1", "http://[::1/v1"])
def test_an_address_that_is_no_url_is_named(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    assert "OPENAI_BASE_URL" in fail(wanted(2))


def test_a_lower_count_takes_what_was_accepted_as_the_error_advises(endpoint: Endpoint) -> None:
    endpoint.script = lambda number: says("") if 2 <= number < 2 + TRIES else None
    assert "gave 5 of 6 usable" in fail(wanted(6))
    endpoint.always(says(""))
    check(from_api(REVIEWS, wanted(5))[0], 5)
