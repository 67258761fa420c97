"""The command line: wrong arguments, and what a shell sees of input that cannot be used."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from broken import (
    REPOSITORY,
    ROWS,
    SCORES,
    TEXTS,
    WEIGHTS,
    Case,
    content,
    cut,
    edited,
    encoded,
    put,
)


def unchanged() -> None:
    """The files are as they should be."""


# fmt: off
ARGUMENTS = [
    Case("a stage of no task", "train joy", unchanged, r"'joy' is not a task of sequence mine: mood, echo"),
    Case("a stage without its task", "train", unchanged, r"arguments are required: TASK"),
    Case("a stage with two tasks", "select_prompt mood echo", unchanged, r"unrecognized arguments: echo"),
    Case("a stage that takes no task", "report mood", unchanged, r"unrecognized arguments: mood"),
    Case("an unknown option", "evaluate --fast mood", unchanged, r"unrecognized arguments: --fast"),
    Case("reference results of no run", "reference_results run", unchanged,
         r"arguments are required: initial"),
]
BROKEN = [
    Case("a label that is none", "prepare", edited(ROWS, {"1.label": "maybe"}),
         r"tasks/mood/train\.json, row 2: label 'maybe' is none of yes, no"),
    Case("paraphrases Latin-1", "paraphrase mood", encoded(TEXTS, "latin-1"),
         r"paraphrase\.path .*paraphrases\.yaml is not UTF-8 text"),
    Case("scores cut off", "report", cut(SCORES, 200), r"metrics/scores/echo\.json is not valid JSON"),
    Case("an adapter with a huge header", "select_prompt echo", put(WEIGHTS, b"\xff" * 64),
         r"models/mood/adapter_model\.safetensors cannot be read"),
]
# fmt: on


@pytest.mark.parametrize("case", ARGUMENTS, ids=lambda case: case.id)
def test_wrong_arguments_are_named_and_change_no_output(case: Case, refused: Callable[[Case], None]) -> None:
    refused(case)


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.id)
def test_a_stage_of_its_own_ends_with_status_1_and_shows_its_traceback_only_when_asked(
    case: Case, workspace: Path, record_property: Callable[[str, object], None]
) -> None:
    case.broken()
    before = content(workspace)
    script, *arguments = case.stage.split()
    for asked in ("", "1") if script == "prepare" else ("",):
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / f"src/{script}.py"), *arguments],
            env=os.environ | {"SAPO_TRACEBACK": asked},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert re.search(f"^error: .*{case.message}", done.stderr.splitlines()[-1])
        assert ("Traceback" in done.stderr) == bool(asked)
        assert content(workspace) == before
    record_property("input", "refused")
