"""Rows, instructions and catalogued files that cannot be used, and damage in what `prepare` wrote."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from broken import (
    ABOUT,
    DROP,
    KEPT,
    NESTED,
    PREPARED,
    ROWS,
    Case,
    Change,
    a_folder,
    a_link,
    both,
    catalogued,
    cut,
    edited,
    encoded,
    gone,
    params,
    put,
    replaced,
)
from sapo.runtime.files import sha256_file

PUBLISHED = ("FOMC/train.json", "FOMC/test.json", "instructions.json")
ROW = {"sentence": "a text", "label": "yes"}


def rehashed(path: str, *rows: dict[str, str]) -> Change:
    """Rows that `prepare` would not have written, with a task.json that fits."""

    def change() -> None:
        split = Path(path)
        split.write_text("".join(json.dumps(row) + "\n" for row in rows))
        edited(f"{split.parent}/task.json", {f"splits.{split.stem}.sha256": sha256_file(split)})()

    return change


# fmt: off
OWN = [
    Case("rows missing", "prepare", gone(ROWS), r"tasks/mood/train\.json is missing"),
    Case("rows a folder", "prepare", a_folder(ROWS), r"tasks/mood/train\.json is a folder, not a file"),
    Case("rows a dangling link", "prepare", a_link(ROWS, "nowhere"), r"tasks/mood/train\.json is missing"),
    Case("rows an empty file", "prepare", put(ROWS, ""),
         r"tasks/mood/train\.json is not valid JSON: .*line 1"),
    Case("rows an empty list", "prepare", put(ROWS, "[]"),
         r"tasks/mood/train\.json: expected a list of rows that is not empty"),
    Case("rows an object", "prepare", put(ROWS, json.dumps(ROW)), r"tasks/mood/train\.json: expected a list"),
    Case("rows cut off", "prepare", cut(ROWS, 100), r"tasks/mood/train\.json is not valid JSON"),
    Case("rows one a line", "prepare", put(ROWS, f"{json.dumps(ROW)}\n{json.dumps(ROW)}\n"),
         r"tasks/mood/train\.json is not valid JSON: Extra data: line 2"),
    Case("rows UTF-16", "prepare", encoded(ROWS, "utf-16"),
         r"tasks/mood/train\.json is not UTF-8 text .*save it as UTF-8"),
    Case("rows Latin-1", "prepare", encoded(ROWS, "latin-1"),
         r"tasks/mood/train\.json is not UTF-8 text .*save it as UTF-8"),
    Case("rows of NUL bytes", "prepare", put(ROWS, b"[" + b"\0" * 64),
         r"tasks/mood/train\.json holds NUL bytes"),
    Case("rows a pickle", "prepare", put(ROWS, b"\x80\x04\x95\x10"),
         r"tasks/mood/train\.json is not UTF-8 text"),
    Case("rows with NaN", "prepare", put(ROWS, '[{"sentence": "a", "label": NaN}]'),
         r"tasks/mood/train\.json .*NaN is not a finite number"),
    Case("rows with infinity", "prepare", put(ROWS, '[{"sentence": "a", "label": -Infinity}]'),
         r"train\.json .*-Infinity is not a finite number"),
    Case("rows with 1e999", "prepare", put(ROWS, '[{"sentence": "a", "label": 1e999}]'),
         r"train\.json .*1e999 is not a finite number"),
    Case("rows with a number of 5000 digits", "prepare", put(ROWS, "[" + "9" * 5000 + "]"),
         r"tasks/mood/train\.json is not valid JSON: .*digits"),
    Case("rows nested too deep", "prepare", put(ROWS, NESTED),
         r"tasks/mood/train\.json is not valid JSON: .*recursion"),
    Case("a row with a key twice", "prepare", put(ROWS, '[{"sentence": "a", "label": "yes", "label": "no"}]'),
         r"train\.json .*'label' occurs twice"),
    Case("a label that is none", "prepare", edited(ROWS, {"1.label": "maybe"}),
         r"train\.json, row 2: label 'maybe' is none of yes, no"),
    Case("a label in capitals", "prepare", edited("tasks/mood/test.json", {"2.label": "YES"}),
         r"test\.json, row 3: label 'YES' is none of yes, no"),
    Case("a label that is a number", "prepare", edited(ROWS, {"0.label": 1}),
         r"train\.json, row 1: 'label' must be a text or a list of texts, found 1"),
    Case("no right answer", "prepare", edited(ROWS, {"0.label": []}),
         r"train\.json, row 1: 'label' must be a text or a list of texts, found \[\]"),
    Case("an empty answer where there are labels", "prepare", edited(ROWS, {"0.label": ""}),
         r"train\.json, row 1: label '' is none of yes, no"),
    Case("labels that differ by case alone", "prepare", edited(ABOUT, {"mood.labels": ["yes", "no", "Yes"]}),
         r"mood: exact match cannot tell the labels 'yes' and 'Yes' apart: rename one"),
    Case("labels that differ by a point alone", "prepare",
         edited(ABOUT, {"mood.labels": ["yes", "no", "no."]}),
         r"mood: exact match cannot tell the labels 'no' and 'no\.' apart"),
    Case("a label twice", "prepare", edited(ABOUT, {"mood.labels": ["yes", "no", " no"]}),
         r"mood: exact match cannot tell the labels 'no' and 'no' apart"),
    Case("a task file that is none", "prepare", both(gone("tasks/echo"), put("tasks/echo.json", "[]")),
         r"tasks/echo\.json: expected an object with 'Definition' and 'Instances'"),
    Case("a task file and a folder", "prepare", put("tasks/echo.json", "{}"),
         r"echo is there twice, as tasks/echo\.json and as tasks/echo: remove one"),
    Case("a sentence that is null", "prepare", edited(ROWS, {"3.sentence": None}),
         r"train\.json, row 4: 'sentence' must be a text.*None"),
    Case("a sentence of white space", "prepare", edited(ROWS, {"3.sentence": " \n\u3000"}),
         r"train\.json, row 4: 'sentence' must be a text that is not empty"),
    Case("a row without a sentence", "prepare", edited(ROWS, {"0.sentence": DROP}),
         r"train\.json, row 1: expected an object with 'sentence' and 'label'"),
    Case("a row that is a text", "prepare", edited(ROWS, {"0": "a text"}),
         r"train\.json, row 1: expected an object"),
    Case("half a character in a sentence", "prepare", edited(ROWS, {"0.sentence": "a \ud83d"}),
         r"train\.json, row 1: 'sentence' .*lone surrogate"),
    Case("half a character in a label", "prepare", edited("tasks/echo/train.json", {"0.label": "\udc00"}),
         r"echo/train\.json, row 1: 'label' .*lone surrogate"),
    Case("a label of 10 MB", "prepare", edited("tasks/echo/train.json", {"0.label": "x" * 10_000_000}),
         r"row 1: 'label' has 10000000 characters"),
    Case("no folder of tasks", "prepare", params(sequence__path="elsewhere"),
         r"sequence\.path: elsewhere holds no instructions\.json"),
    Case("a file for the folder of tasks", "prepare", params(sequence__path=ROWS),
         r"sequence\.path: tasks/mood/train\.json holds no instructions\.json"),
    Case("a task without a folder", "prepare", gone("tasks/echo"), r"tasks/echo/train\.json is missing"),
    Case("instructions a list", "prepare", put(ABOUT, "[]"), r"instructions\.json has no entry 'mood'"),
    Case("instructions UTF-16", "prepare", encoded(ABOUT, "utf-16"), r"instructions\.json is not UTF-8 text"),
    Case("instructions without a task", "prepare", edited(ABOUT, {"echo": DROP}),
         r"instructions\.json has no entry 'echo'"),
    Case("instructions of a task twice", "prepare", replaced(ABOUT, "{", '{"mood": {}, '),
         r"instructions\.json .*'mood' occurs twice"),
    Case("an instruction that is a number", "prepare", edited(ABOUT, {"mood.instruction": 3}),
         r"instructions\.json, mood: 'instruction' must be a text, found 3"),
    Case("an instruction with a misspelt key", "prepare",
         edited(ABOUT, {"mood.sufix": "", "mood.suffix": DROP}),
         r"mood: 'suffix' must be a text, found None"),
    Case("labels a text", "prepare", edited(ABOUT, {"mood.labels": "yes, no"}),
         r"mood: 'labels' must be a list of texts"),
    Case("labels of numbers", "prepare", edited(ABOUT, {"mood.labels": [0, 1]}),
         r"mood: 'labels' must be a list of texts"),
    Case("an empty label", "prepare", edited(ABOUT, {"mood.labels": ["yes", ""]}),
         r"mood: 'labels' must be a list of texts"),
    Case("an unknown language", "prepare", edited(ABOUT, {"mood.language": "fr"}),
         r"mood: 'language' must be 'en' or 'zh', found 'fr'"),
    Case("half a character in an instruction", "prepare", edited(ABOUT, {"mood.instruction": "Do \ud800"}),
         r"instructions\.json, mood: .*lone surrogate"),
    Case("catalogued files elsewhere", "prepare", catalogued("nowhere"),
         r"cannot fetch nowhere/TRACE/.*it is not there.*data\.url"),
    Case("an unknown protocol", "prepare", catalogued("gopher://host/x"),
         r"data\.url: gopher://host/x/TRACE/.* cannot be read"),
    Case("a catalogued file that is another", "prepare",
         catalogued("m", *(put(f"m/TRACE/{name}", "[]") for name in PUBLISHED)),
         r"m/TRACE/.* is not the file that the catalogue knows.*Git blob id"),
    Case("a cache that is a file", "prepare", catalogued("mirror", put("cache", "x")),
         r"cannot store .* under .*SAPO_CACHE"),
]
PREPARED = [
    Case("kept rows missing", "evaluate base", gone("data/tasks/echo/test.jsonl"),
         r"data/tasks/echo/test\.jsonl is missing;", PREPARED),
    Case("kept rows changed", "evaluate base", replaced("data/tasks/mood/test.jsonl", "yes", "no"),
         r"data/tasks/mood/test\.jsonl is not the file that task\.json records", PREPARED),
    Case("kept rows cut off", "evaluate base", cut("data/tasks/mood/test.jsonl", 70),
         r"data/tasks/mood/test\.jsonl, line \d.* not valid JSON", PREPARED),
    Case("kept rows empty", "train mood", put("data/tasks/mood/train.jsonl", ""),
         r"mood/train\.jsonl is not the file that task\.json records", PREPARED),
    Case("a kept row with a key twice", "train mood",
         put("data/tasks/mood/train.jsonl", '{"sentence": "a", "sentence": "b", "label": "no"}\n'),
         r"mood/train\.jsonl, line 1.*'sentence' occurs twice", PREPARED),
    Case("a kept label that is none", "train mood",
         rehashed("data/tasks/mood/train.jsonl", ROW, ROW | {"label": "joy"}),
         r"mood/train\.jsonl, line 2: label 'joy' is none of", PREPARED),
    Case("task.json cut off", "paraphrase mood", cut(KEPT, 50),
         r"data/tasks/mood/task\.json is not valid JSON", PREPARED),
    Case("task.json a list", "paraphrase mood", put(KEPT, "[]"),
         r"data/tasks/mood/task\.json: expected an object", PREPARED),
    Case("task.json without splits", "paraphrase mood", edited(KEPT, {"splits": DROP}),
         r"data/tasks/mood/task\.json: splits: Field required", PREPARED),
    Case("task.json without a split", "paraphrase mood",
         edited(KEPT, {"splits.test": DROP}),
         r"data/tasks/mood/task\.json: splits: .*train and test are needed, found train", PREPARED),
    Case("task.json with an unknown key", "paraphrase mood",
         edited(KEPT, {"shots": 3}),
         r"data/tasks/mood/task\.json: shots: Extra inputs are not permitted", PREPARED),
    Case("task.json with another language", "evaluate base",
         edited(KEPT, {"language": "fr"}),
         r"data/tasks/mood/task\.json: language: Input should be 'en' or 'zh', found 'fr'", PREPARED),
    Case("task.json with labels of numbers", "paraphrase mood",
         edited(KEPT, {"labels": [1]}),
         r"data/tasks/mood/task\.json: labels\.0: Input should be a valid string, found 1", PREPARED),
    Case("task.json with another count", "train mood",
         edited(KEPT, {"splits.train.rows": 5}),
         r"mood/train\.jsonl is not the file that task\.json records", PREPARED),
    Case("task.json with a text for a limit", "evaluate base",
         edited(KEPT, {"max_new_tokens": "8"}),
         r"task\.json: max_new_tokens: Input should be a valid integer, found '8'", PREPARED),
]
# fmt: on


@pytest.mark.parametrize("case", [*OWN, *PREPARED], ids=lambda case: case.id)
def test_data_that_cannot_be_used_is_named_and_changes_no_output(
    case: Case, refused: Callable[[Case], None]
) -> None:
    refused(case)
