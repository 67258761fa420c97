"""Result files of the public implementation that cannot be used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from broken import Case, edited, gone, replaced

# fmt: off
CASES = [
    Case("a reference run that is missing", "reference_results absent initial.json", lambda: None,
         r"absent is not a folder"),
    Case("a reference run with a gap", "reference_results run initial.json",
         lambda: Path("run/2-echo").rename("run/3-echo"),
         r"run must hold one folder a stage.*found: 1-mood, 3-echo"),
    Case("a reference run without a result", "reference_results run initial.json",
         gone("run/2-echo/all_results.json"), r"run/2-echo/all_results\.json is missing"),
    Case("a reference run whose score is NaN", "reference_results run initial.json",
         edited("run/2-echo/all_results.json", {"predict_rougeL_for_mood": float("nan")}),
         r"all_results\.json: predict_rougeL_for_mood is nan, not a finite"),
    Case("a reference run with a key twice", "reference_results run initial.json",
         replaced("run/1-mood/all_results.json", "{", '{"predict_rougeL_for_mood": 1,'),
         r"1-mood/all_results\.json .*'predict_rougeL_for_mood' occurs twice"),
    Case("initial scores missing", "reference_results run none.json", lambda: None, r"none\.json is missing"),
]
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_reference_results_that_cannot_be_used_are_named_and_change_no_output(
    case: Case, refused: Callable[[Case], None]
) -> None:
    refused(case)
