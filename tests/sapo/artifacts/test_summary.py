"""What a summary says was tested."""

import pytest

from sapo.analysis.answer_metrics import METRICS
from sapo.artifacts.run_record import AnswerSettings, AnswersRecord, RunName, TestedTask
from sapo.artifacts.summary import HEADLINE_METRIC, Summary
from sapo.config import Prompt

NAME = RunName(method="m", model="tiny", seed=1, sequence="s")
TESTED = TestedTask(rows=3, test="0" * 64, about="1" * 64, prompt="2" * 64)


def fingerprint(tasks: dict[str, TestedTask]) -> str:
    settings = AnswerSettings(
        prompt=Prompt(max_tokens=99), dtype="float32", template_options={}, template="t", evaluate={}
    )
    record = AnswersRecord(base="b", adapter=None, settings=settings, tasks=tasks, versions={}, device="cpu")
    return Summary.of(NAME, {}, {}, record).test_fingerprint


def test_other_training_rows_are_no_other_test_rows() -> None:
    """task.json, hashed in `about`, counts and hashes the training rows too."""
    other = TESTED.model_copy(update={"about": "3" * 64})
    assert fingerprint({"one": TESTED}) == fingerprint({"one": other})


@pytest.mark.parametrize("field", ["test", "prompt"])
def test_other_test_rows_or_prompts_are_told_apart(field: str) -> None:
    other = TESTED.model_copy(update={field: "3" * 64})
    assert fingerprint({"one": TESTED}) != fingerprint({"one": other})
    assert fingerprint({"one": TESTED}) != fingerprint({"other": TESTED})


def test_the_headline_is_the_first_metric() -> None:
    assert next(iter(METRICS)) == HEADLINE_METRIC == "rouge_l"
