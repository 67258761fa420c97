"""Results that cannot be reported: damaged, incomplete, or of different runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from broken import (
    ANEW,
    CHOSEN,
    DROP,
    LAST,
    LINEAGE,
    MADE,
    REPRO,
    SCORES,
    Case,
    a_folder,
    copied,
    cut,
    edited,
    gone,
    params,
    put,
    replaced,
    substituted,
)

ANSWERS = "data/predictions/echo/mood.jsonl"


def one_more() -> None:
    """Scores after a stage that the sequence does not have."""
    after = json.loads(Path(SCORES).read_text())["stages"][-1] | {"stage": "joy"}
    edited(SCORES, {"stages.+": after})()


# fmt: off
CASES = [
    Case("scores missing", "report", gone(SCORES), r"metrics/scores/echo\.json is missing;", MADE),
    Case("scores a folder", "report", a_folder(SCORES),
         r"metrics/scores/echo\.json cannot be read as a file", MADE),
    Case("scores cut off", "report", cut(SCORES, 200), r"metrics/scores/echo\.json is not valid JSON", MADE),
    Case("scores that are no rows", "report", edited(SCORES, {"stages": {}}),
         r"metrics/scores/echo\.json: stages: Input should be a valid list", MADE),
    Case("scores of too few stages", "report", edited(SCORES, {"stages.1": DROP}),
         r"metrics/scores/echo\.json holds the stages base, echo, expected base, mood, echo", REPRO),
    Case("scores of too many stages", "report", one_more,
         r"metrics/scores/echo\.json holds the stages .*joy, expected base, mood, echo", REPRO),
    Case("scores of another run", "report", edited(SCORES, {"stages.1.stage": "joy"}),
         r"metrics/scores/echo\.json holds the stages base, joy, echo, expected base, mood, echo", REPRO),
    Case("a task without scores", "report", edited(SCORES, {"stages.1.scores.echo": DROP}),
         r"the scores under the chosen prompt lack 'echo'", REPRO),
    Case("a metric missing", "report", edited(SCORES, {"stages.2.scores.mood.exact_match": DROP}),
         r"the scores under the chosen prompt lack 'exact_match'", REPRO),
    Case("no scores of the original prompt", "report",
         edited(SCORES, {"stages.0.scores_original_prompt": DROP}),
         r"scores/echo\.json: stages\.0\.scores_original_prompt: Field required", MADE),
    Case("a score that is null", "report", edited(SCORES, {"stages.2.scores.mood.rouge_l": None}),
         r"stages\.2\.scores\.mood\.rouge_l: Input should be a valid number, found None", MADE),
    Case("a score that is a text", "report", edited(SCORES, {"stages.2.scores.mood.rouge_l": "50"}),
         r"stages\.2\.scores\.mood\.rouge_l: Input should be a valid number, found '50'", MADE),
    Case("a score that is NaN", "report", edited(SCORES, {"stages.2.scores.mood.rouge_l": float("nan")}),
         r"metrics/scores/echo\.json .*NaN is not a finite number", MADE),
    Case("a score of 1e999", "report",
         substituted(SCORES, r'"rouge_l": [\d.]+', '"rouge_l": 1e999'),
         r"metrics/scores/echo\.json .*1e999 is not a finite number", MADE),
    Case("scores that are a list", "report", edited(SCORES, {"stages.2.scores": []}),
         r"scores/echo\.json: stages\.2\.scores: Input should be a valid dictionary", MADE),
    Case("no row scores", "report", gone("metrics/rows/echo.jsonl"),
         r"metrics/rows/echo\.jsonl is missing;", MADE),
    Case("row scores cut off", "report", cut("metrics/rows/echo.jsonl", 150),
         r"metrics/rows/echo\.jsonl, line \d.* not valid JSON", MADE),
    Case("row scores of another run", "report",
         copied("metrics/rows/mood.jsonl", "metrics/rows/echo.jsonl"),
         r"metrics/rows/echo\.jsonl lacks the row scores of mood after echo", REPRO),
    Case("a row score that is NaN", "report", replaced("metrics/rows/echo.jsonl", "[0.0", "[NaN"),
         r"metrics/rows/echo\.jsonl, line 1.*NaN is not a finite number", MADE),
    Case("scores without their record", "report", edited(SCORES, {"stages.1.run": DROP}),
         r"scores/echo\.json: stages\.1\.run: Field required", MADE),
    Case("scores with half a record", "report", edited(SCORES, {"stages.0.run.settings": DROP}),
         r"scores/echo\.json: stages\.0\.run\.settings: Field required", MADE),
    Case("scores under another base model", "report", edited(SCORES, {"stages.2.run.base": "f" * 64}),
         r"echo\.json, stage echo: base is not .*of different runs", ANEW),
    Case("no selection", "report", gone(CHOSEN), r"data/prompts/mood\.json is missing", MADE),
    Case("a selection of another run", "report", edited(CHOSEN, {"candidates.1.loss": 0.5}),
         r"data/prompts/mood\.json is not the selection that the model was trained after", ANEW),
    Case("scores of another version", "report", edited(SCORES, {"format": 999}),
         r"metrics/scores/echo\.json is of format 999, this program reads format \d", MADE),
    Case("no provenance", "report", gone("metrics/provenance/train-mood.json"),
         r"metrics/provenance/train-mood\.json is missing;", MADE),
    Case("provenance that is damaged", "report", put("metrics/provenance/train-mood.json", "{}"),
         r"train-mood\.json has no format number", MADE),
    Case("settings of another seed", "report", params(seed=7),
         r"params\.yaml has seed 7, but the models were trained with 1", REPRO),
    Case("lineage missing", "report", gone(LAST), r"models/echo/lineage\.json is missing;", MADE),
    Case("lineage of another run", "report", copied(LINEAGE, LAST),
         r"models/echo/lineage\.json is of another run: it has learned mood, expected mood, echo", REPRO),
    Case("lineage without versions", "report", edited(LAST, {"versions": DROP}),
         r"models/echo/lineage\.json: versions: Field required", MADE),
    Case("lineage without a history", "report", edited(LAST, {"tasks.1.history": DROP}),
         r"models/echo/lineage\.json: tasks\.1\.history: Field required", MADE),
    Case("lineage with a loss that is a text", "report", edited(LAST, {"tasks.0.history.0.loss": "low"}),
         r"lineage\.json: tasks\.0\.history\.0\.loss: Input should be a valid number, found 'low'", MADE),
    Case("lineage with a loss that is NaN", "report",
         edited(LAST, {"tasks.0.history.0.loss": float("nan")}),
         r"models/echo/lineage\.json .*NaN is not a finite number", MADE),
    Case("no answers of a task", "report", gone(ANSWERS),
         r"data/predictions/echo/mood\.jsonl is missing", MADE),
    Case("answers cut off", "report", cut(ANSWERS, 20),
         r"data/predictions/echo/mood\.jsonl, line 1 is not valid JSON", MADE),
    Case("an answer that is a number", "report",
         substituted(ANSWERS, '"prediction": "[^,]*"', '"prediction": 7'),
         r"mood\.jsonl, line 1: prediction: Input should be a valid string, found 7", MADE),
    Case("answers with another score", "report",
         substituted(ANSWERS, '"rouge_1": [0-9.]+', '"rouge_1": 55.5'),
         r"the answers of echo to mood are of another run: rouge_1 of row 0 is not what was recorded"),
    Case("answers without a score", "report", substituted(ANSWERS, '"rouge_1": [0-9.]+, ', ""),
         r"the answers of echo to mood: row 0 has no rouge_1", MADE),
    Case("answers to other rows", "report", copied("data/predictions/echo/echo.jsonl", ANSWERS),
         r"data/predictions/echo/mood\.jsonl holds no answers to the test rows of mood"),
    Case("no test rows", "report", gone("data/tasks/mood/test.jsonl"),
         r"data/tasks/mood/test\.jsonl is missing"),
]
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_results_that_cannot_be_used_are_named_and_change_no_output(
    case: Case, refused: Callable[[Case], None]
) -> None:
    refused(case)
