"""Scores of earlier stages that cannot be used."""

from collections.abc import Callable

import pytest

from broken import MADE, REPRO, SCORES, Case, both, copied, edited, gone, run_stage, substituted

# fmt: off
CASES = [
    Case("earlier scores missing", "evaluate mood", gone("metrics/scores/base.json"),
         r"metrics/scores/base\.json is missing;", MADE),
    Case("earlier scores of another stage", "evaluate mood",
         copied(SCORES, "metrics/scores/base.json"),
         r"metrics/scores/base\.json holds the stages base, mood, echo, expected base;", REPRO),
    Case("earlier scores with NaN", "evaluate mood",
         edited("metrics/scores/base.json", {"stages.0.scores.mood.rouge_l": float("nan")}),
         r"metrics/scores/base\.json .*NaN is not a finite number", MADE),
    Case("a right answer beyond the model's context", "evaluate mood",
         both(edited("tasks/echo/test.json", {"1.label": "long " * 500}), lambda: run_stage("prepare")),
         r"the model reads at most 2048 tokens .*prompt and answer need .*the task's longest answers"),
    Case("earlier row scores missing", "evaluate mood", gone("metrics/rows/base.jsonl"),
         r"metrics/rows/base\.jsonl is missing;", MADE),
    Case("earlier row scores with a text", "evaluate echo",
         substituted("metrics/rows/mood.jsonl", r'"rouge_l": \[[\d.]+', '"rouge_l": ["high"'),
         r"rows/mood\.jsonl, line 1: .*rouge_l\.0: Input should be a valid number, found 'high'", MADE),
]
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_earlier_scores_that_cannot_be_used_are_named_and_change_no_output(
    case: Case, refused: Callable[[Case], None]
) -> None:
    refused(case)
