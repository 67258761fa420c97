"""A study made by hand in the working folder, whose effects are planted: files are real, scores drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from by_hand import FINGERPRINT, TEMPLATE, settings, write_tasks
from sapo.artifacts.candidates import Candidates
from sapo.artifacts.run_record import PromptText, answers_record, training_record
from sapo.artifacts.study import (
    AboutPredictor,
    PairPredictors,
    PairTrainings,
    PredictorValues,
    Role,
    StudyRecord,
    TaskRows,
    Trained,
    wordings_path,
    write_wordings,
)
from sapo.config import Params
from sapo.runtime.files import sha256_file
from sapo.settings.study import Pair

ORDER = ["first", "second", "third"]
PAIRS = [("second", "first"), ("third", "second"), ("third", "first")]


def study_settings(
    pairs: Sequence[tuple[str, str]] = PAIRS, wordings: int = 21, seeds: Sequence[int] = (1, 2)
) -> Params:
    """The repository's settings, with three tasks, a probe and this study."""
    content = settings(ORDER).model_dump(mode="json")
    content["sequence"]["probes"] = ["probe"]
    content["study"] |= {
        "name": "by_hand",
        "pairs": [{"task": task, "after": after} for task, after in pairs],
        "wordings": wordings,
        "seeds": [*seeds],
        "test_rows": 16,
        "other_rows": 8,
    }
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return Params.model_validate(content)


def study_by_hand(
    params: Params, planted: Mapping[str, Mapping[Role, float]], noise: float = 0.3, seed: int = 0
) -> None:
    """Write the study's files. planted: predictor -> role -> what its standardised value adds to the scores.

    A log-likelihood is -2 and this; a right-or-wrong score is 100 where it is above -2. noise: the SD of a
    row's score in one training.
    """
    write_tasks([*ORDER, "probe"])
    random = np.random.default_rng(seed)
    count, study = params.study.wordings, params.study
    for pair in study.pairs:
        texts = [f"Say {pair.task}.", *(f"Say {pair.task} in manner {n}." for n in range(1, count))]
        write_wordings(Candidates(task=pair.task, source="bank", candidates=texts, api=None))
        values = {name: random.standard_normal(count) for name in planted}
        record = record_by_hand(params, pair, params.seed)
        found = {
            name: PredictorValues(
                about=AboutPredictor(title=name, unit="a unit", passes=16, keeps_data=False),
                values=[float(value) for value in of],
            )
            for name, of in values.items()
        }
        before = [_rows(task, role, np.full(rows, -2.5)) for task, role, rows in roles(params, pair)]
        PairPredictors(pair=pair, run=record, predictors=found, before=before).write()
        effect = {
            role: sum(of[role] * values[name] for name, of in planted.items() if role in of) + np.zeros(count)
            for _, role, _ in roles(params, pair)
        }
        for number in study.seeds:
            wordings = []
            for wording in range(count):
                asked = [one for one in roles(params, pair) if wording or one[1] != "original"]
                tasks = [
                    _rows(task, role, -2 + effect[role][wording] + noise * random.standard_normal(rows))
                    for task, role, rows in asked
                ]
                wordings.append(Trained(wording=wording, loss=0.5, tasks=tasks))
            run = record_by_hand(params, pair, number)
            PairTrainings(pair=pair, seed=number, run=run, wordings=wordings).write()


def roles(params: Params, pair: Pair) -> list[tuple[str, Role, int]]:
    """Task, role and rows of all that is measured for a pair."""
    study, earlier = params.study, ORDER[: ORDER.index(pair.after) + 1]
    found: list[tuple[str, Role, int]] = [
        (pair.task, "own", study.test_rows),
        (pair.task, "original", study.test_rows),
    ]
    for task in [*ORDER, "probe"]:
        if task != pair.task:
            role: Role = "earlier" if task in earlier else "probe" if task == "probe" else "later"
            found.append((task, role, study.test_rows if role == "earlier" else study.other_rows))
    return found


def record_by_hand(params: Params, pair: Pair, seed: int) -> StudyRecord:
    params = params.model_copy(update={"seed": seed})
    prompt = PromptText(instruction=f"Say {pair.task}.", suffix="Answer:", language="en")
    training = training_record(
        params, FINGERPRINT, None, pair.task, prompt, selector="fixed", template=TEMPLATE, device="cpu"
    )
    answers = answers_record(params, FINGERPRINT, None, {pair.task: prompt}, TEMPLATE, "cpu")
    rows = params.study.model_dump(include={"train_rows", "test_rows", "other_rows"})
    return StudyRecord(
        training=training, answers=answers, wordings=sha256_file(wordings_path(pair.task)), rows=rows
    )


def _rows(task: str, role: Role, values: np.ndarray) -> TaskRows:
    right = 100.0 * (values > -2)
    return TaskRows.of(task, role, {"rouge_l": right, "exact_match": right, "log_likelihood": values})
