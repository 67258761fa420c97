"""A language model's answers are checked before they are kept: which ones are, and which ones are not."""

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from canaries import KEY
from openai_server import PATIENCE, Answer, OpenAIServer, Request, choices, completion
from paraphrase import paraphrase
from reviews import INSTRUCTION, REVIEWS, check, fail, good, stored, wanted
from sapo.artifacts.candidates import Asked, read_candidates
from sapo.artifacts.task import TASKS, Example, save_task
from sapo.candidates.api import REPEATS, TRIES, from_api
from sapo.runtime.command import one_line
from sapo.runtime.files import read_json

REPOSITORY = Path(__file__).parents[3]
WHOLE = completion(good(900))
HALF = Answer(body=WHOLE.body[: len(WHOLE.body) // 2])


# what is kept


def test_all_good_answers_are_kept_as_they_are(endpoint: OpenAIServer, tmp_path: Path) -> None:
    texts, how = from_api(REVIEWS, wanted(4))
    assert texts == [good(number) for number in range(4)]
    assert how == Asked(model="some-model", style="manners", temperature=0.6, asked=4, rejected={})
    check(texts, 4)
    assert [read_json(path)["text"] for path in stored(tmp_path)] == texts


@pytest.mark.parametrize("concurrency", [1, 8])
def test_fault_08_paraphrasing_asks_once_for_each_candidate(endpoint: OpenAIServer, concurrency: int) -> None:
    texts, how = from_api(REVIEWS, wanted(20, concurrency))
    assert len(endpoint.requests) == how.asked == 20
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
        "是 positive 还是 negative？请只回答其中一个词，不要解释，不加标点。 (Only one word, no more.)",
        "Is it \\positive\\ or /negative/? \U0001f642 Naïve readers may also ask.",
    ],
)
def test_fault_17_braces_quotes_and_markup_in_an_answer_are_kept(endpoint: OpenAIServer, text: str) -> None:
    endpoint.first(completion(text))
    texts, how = from_api(REVIEWS, wanted(1))
    assert texts == [text]
    assert how.rejected == {}


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
def test_fault_17_quotes_and_a_reasoning_block_around_an_answer_are_removed(
    endpoint: OpenAIServer, around: str
) -> None:
    endpoint.first(completion(around.format(good(0))))
    assert from_api(REVIEWS, wanted(1))[0] == [good(0)]


def test_the_stage_records_where_its_candidates_come_from(
    endpoint: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params["paraphrase"] |= {"source": "api", "count": 3, "model": "some-model", "concurrency": 2}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    name = params["sequence"]["last"]
    rows = [Example("Fine.", "positive")]
    monkeypatch.chdir(tmp_path)
    task = replace(REVIEWS, name=name, train=rows, test=rows)
    save_task(TASKS / name, task)
    endpoint.first(completion(""))
    paraphrase(name)
    candidates = read_candidates(task)
    assert candidates[0] == INSTRUCTION
    check(candidates[1:], 3)
    told = {
        "model": "some-model",
        "style": "manners",
        "temperature": 0.6,
        "asked": 4,
        "rejected": {"it is empty": 1},
    }
    content = read_json(tmp_path / "data" / "paraphrases" / f"{name}.json")
    assert content == {"format": 2, "task": name, "source": "api", "candidates": candidates, "api": told}
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


# what is not


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (completion(""), "it is empty"),
        (completion(" \n\t"), "it is empty"),
        (completion("<think>which one?</think>"), "it holds no text, only thinking"),
        (completion('""'), "it is empty"),
        (completion(INSTRUCTION), "it is the original"),
        (
            completion(f'"{INSTRUCTION.upper()}"'),
            "it is the original; it lacks the labels positive, negative",
        ),
        (completion(good(900).replace("positive", "good")), "it lacks the labels positive"),
        (
            completion(good(900).replace("positive", "Positive").replace("negative", "negatives")),
            "it lacks the labels positive, negative",
        ),
        (completion("positive, negative"), "its length of 18 characters is too far from the original's 108"),
        (
            completion(f"{good(900)} Indeed." * 8),
            "its length of 680 characters is too far from the original's 108",
        ),
        (completion(f"{good(900)}<|im_end|>"), "it holds a control token of a chat template"),
        (completion(f"<think>It is cut off here. {good(900)}"), "it holds no text, only thinking"),
        (completion(f"{good(900)}\x1b[0m"), "it holds a control character"),
        (completion(f"Sure! {good(900)}"), 'it begins with words to the one who asked ("Sure!")'),
        (completion(f"{good(900)} Let me know if it fits!"), 'it offers more ("Let me know if")'),
        (completion(good(900), finish="length"), "it is cut off at the server's limit of tokens"),
        (completion(None), "it holds no text"),
        (choices([]), "it holds no message"),
        (choices(None), "it holds no message"),
        (choices([{"index": 0, "finish_reason": "stop", "message": None}]), "it holds no message"),
        (choices([{}]), "it holds no message"),
        (Answer(body=b"{}"), "it holds no message"),
        (Answer(body=b"null"), "it holds no message"),
        (Answer(body=b"[]"), "it holds no message"),
        (HALF, "the answer is not valid JSON"),
        (Answer(body=b""), "the answer is not valid JSON"),
        (Answer(body=WHOLE.body.replace(b"reader", b"\xff\xfe")), "the answer is not valid JSON"),
    ],
)
def test_fault_17_an_answer_that_cannot_be_used_is_recorded_and_asked_for_again(
    endpoint: OpenAIServer, bad: Answer, reason: str
) -> None:
    endpoint.first(None, bad)
    texts, how = from_api(REVIEWS, wanted(3))
    assert texts == [good(0), good(2), good(3)]
    assert (how.asked, how.rejected) == (4, {reason: 1})
    assert [reason in request.question for request in endpoint.requests] == [False, False, True, False]


@pytest.mark.parametrize(
    "found", ["abc", ["abc"], [None], {"0": {}}, [{"finish_reason": "stop", "message": "text"}]]
)
def test_fault_17_choices_of_another_shape_are_asked_for_again(endpoint: OpenAIServer, found: Any) -> None:
    endpoint.first(choices(found))
    assert from_api(REVIEWS, wanted(1))[0] == [good(1)]


def test_fault_17_a_duplicate_of_an_accepted_answer_is_asked_for_again(endpoint: OpenAIServer) -> None:
    endpoint.first(
        None,
        None,
        completion(good(0).upper().lower()),
        completion(good(0).replace(" ", "  ")),
        completion(f'"{good(1)}"'),
    )
    texts, how = from_api(REVIEWS, wanted(3))
    assert texts == [good(0), good(1), good(5)]
    assert how.rejected == {"it is a duplicate": 3}
    check(texts, 3)


def test_fault_17_duplicates_that_arrive_at_the_same_time_are_told(endpoint: OpenAIServer) -> None:
    together = threading.Barrier(4)

    def four_at_once(request: Request) -> Answer | None:
        if request.number >= 4:
            return None
        together.wait(PATIENCE)
        return completion(good(0))

    endpoint.script = four_at_once
    texts, how = from_api(REVIEWS, wanted(4, concurrency=4))
    check(texts, 4)
    assert how.rejected == {"it is a duplicate": 3}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_fault_17_too_few_usable_answers_are_an_error_that_says_how_many_and_why(
    endpoint: OpenAIServer, concurrency: int
) -> None:
    wrong = [completion(""), completion(good(900).replace("negative", "bad")), completion(INSTRUCTION)]
    endpoint.script = lambda request: None if request.number == 0 else wrong[request.number % 3]
    message = fail(wanted(3, concurrency))
    assert len(endpoint.requests) == 1 + 2 * TRIES
    assert message.startswith(
        f"reviews: some-model gave 1 of 3 usable paraphrases in {1 + 2 * TRIES} answers. Rejected:\n"
    )
    told = {
        reason: int(count) for count, reason in re.findall(r"^  (\d+) x (.*?)\.?$", message, re.MULTILINE)
    }
    assert told.keys() == {"it is empty", "it lacks the labels negative", "it is the original"}
    assert sum(told.values()) == 2 * TRIES


def test_fault_17_a_candidate_is_asked_for_a_bounded_number_of_times(endpoint: OpenAIServer) -> None:
    endpoint.script = lambda request: None if request.number == 0 else completion(good(0))
    message = fail(wanted(2))
    assert len(endpoint.requests) == 1 + TRIES
    assert f"  {TRIES} x it is a duplicate.\nThose accepted are kept: run again" in message
    line = one_line(message)
    assert f"answers. Rejected: {TRIES} x it is a duplicate. Those accepted are kept: run again" in line


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_server_that_only_repeats_itself_is_not_asked_for_ever(
    endpoint: OpenAIServer, concurrency: int
) -> None:
    endpoint.always(completion(good(0)))
    message = fail(wanted(20, concurrency, style="plain"))
    assert message.startswith("reviews: some-model gave 1 of 20 usable paraphrases in 1")
    assert message.endswith("raise paraphrase.temperature (now 0.6), or use paraphrase.style=manners")
    assert 1 + REPEATS <= len(endpoint.requests) < 1 + REPEATS + concurrency
    endpoint.forget()
    assert "raise paraphrase.temperature (now 0.6), or choose another" in fail(wanted(20, concurrency))
    assert 1 + REPEATS <= len(endpoint.requests) < 1 + REPEATS + concurrency


def test_new_answers_between_repeated_ones_keep_it_going(endpoint: OpenAIServer) -> None:
    endpoint.script = lambda request: completion(good(request.number // 4))
    texts, how = from_api(REVIEWS, wanted(8, style="plain"))
    check(texts, 8)
    assert how.rejected == {"it is a duplicate": 21}
