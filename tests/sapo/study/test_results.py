"""Files of a study: only those of the settings are read, and no two that differ in what decides them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sapo.artifacts.study import predictors_path, trainings_path
from sapo.config import Params
from sapo.runtime.errors import ArtifactError, OtherStudyError
from sapo.study.results import read_results
from study_by_hand import PAIRS, study_by_hand, study_settings

PLANTED = {"loss": {"earlier": -0.3}}


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    params = study_settings(PAIRS[:2], wordings=6)
    study_by_hand(params, PLANTED)
    return params


def edit(path: Path, *fields: Any) -> None:
    """Set what lies under these keys to the last of them."""
    content = json.loads(path.read_text())
    *keys, last, value = fields
    place = content
    for key in keys:
        place = place[key]
    place[last] = value
    path.write_text(json.dumps(content))


def test_what_removed_settings_left_is_not_read(params: Params) -> None:
    results = read_results(params)
    first = params.study.pairs[0]
    Path("study/rows/removed-after-first-1.json").write_text("{")
    shutil.copy(trainings_path(first, 1), trainings_path(first, 7))
    assert read_results(params) == results
    study = params.study.model_copy(update={"pairs": params.study.pairs[1:], "seeds": [2]})
    [one] = read_results(params.model_copy(update={"study": study}))
    assert [training.seed for training in one.trainings] == [2]


CHANGES = {
    "another version of torch": (["run", "training", "versions", "torch", "1.0"], "versions: torch is '1.0'"),
    "other rows tested": (["run", "rows", "test_rows", 9], "rows: test_rows is 9, expected 16"),
    "another learning rate": (
        ["run", "training", "settings", "train", "learning_rate", 1.0],
        "learning_rate",
    ),
    "another device": (["run", "training", "device", "cuda"], "device is 'cuda'"),
    "another base model": (["run", "answers", "base", "x"], "base is 'x'"),
    "another dtype": (["run", "answers", "settings", "dtype", "bfloat16"], "dtype"),
    "another state": (["run", "training", "previous", "x"], "previous is 'x'"),
    "other wordings": (["run", "wordings", "x"], "wordings is 'x'"),
    "another seed": (["run", "training", "seed", 5], "seed is 5"),
    "another pair": (["pair", "task", "first"], "task is 'first'"),
    "a wording twice": (["wordings", 1, "wording", 0], "wordings"),
    "other rows of a task": (
        ["wordings", 2, "tasks", 0, "log_likelihood", [-1.0]],
        "wording 2 was measured on other rows",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_files_of_different_studies_are_refused(params: Params, name: str) -> None:
    fields, told = CHANGES[name]
    path = trainings_path(params.study.pairs[1], 2)
    edit(path, *fields)
    with pytest.raises(OtherStudyError, match=told) as error:
        read_results(params)
    assert str(path) in str(error.value)


def test_predictors_of_another_study_are_refused(params: Params) -> None:
    path = predictors_path(params.study.pairs[1])
    edit(path, "run", "answers", "versions", "numpy", "0")
    with pytest.raises(OtherStudyError, match="versions: numpy is '0'"):
        read_results(params)


def test_too_few_values_of_a_predictor_are_refused(params: Params) -> None:
    edit(predictors_path(params.study.pairs[0]), "predictors", "loss", "values", [1.0])
    with pytest.raises(OtherStudyError, match="loss has 1 values"):
        read_results(params)


@pytest.mark.parametrize("value", ["NaN", "1e999"])
def test_a_score_that_is_no_number_is_refused(params: Params, value: str) -> None:
    path = trainings_path(params.study.pairs[0], 1)
    text = path.read_text()
    path.write_text(text.replace('"log_likelihood": [', f'"log_likelihood": [{value}, ', 1))
    with pytest.raises(ArtifactError, match=r"not a finite number|not valid JSON"):
        read_results(params)


def test_a_missing_file_is_named(params: Params) -> None:
    trainings_path(params.study.pairs[0], 2).unlink()
    with pytest.raises(ArtifactError, match=r"study/rows/second-after-first-2\.json is missing"):
        read_results(params)
