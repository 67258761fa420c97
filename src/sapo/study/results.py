"""The study's files of a pair, checked to be of one study, as tables of row scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sapo.artifacts.study import (
    OUTCOMES,
    PairPredictors,
    PairTrainings,
    StudyRecord,
    TaskRows,
    predictors_path,
    trainings_path,
)
from sapo.artifacts.task import read_about
from sapo.config import Params
from sapo.runtime.errors import OtherStudyError
from sapo.settings.study import Pair

MEASURES = ("log_likelihood", "score")  # `score`: exact match, of tasks with free answers ROUGE-L
# What differs between pairs, or between seeds, of one study
OF_PAIR: Any = {
    "training": {"previous", "train", "prompt", "earlier", "seed"},
    "answers": {"adapter", "tasks"},
    "wordings": True,
}


@dataclass(frozen=True)
class PairResults:
    """All that was measured of a pair; trainings: one a seed, in the order of the settings."""

    pair: Pair
    predictors: PairPredictors
    trainings: list[PairTrainings]

    @property
    def wordings(self) -> int:
        return len(self.trainings[0].wordings)

    def tables(self, outcome: str, measure: str) -> dict[str, np.ndarray]:
        """Task -> scores (wordings, seeds, rows) of the tasks of an outcome, in the measure's unit."""
        found: dict[str, list[list[list[float]]]] = {}
        for index in range(self.wordings):
            for training in self.trainings:
                for one in training.wordings[index].tasks:
                    if one.role in OUTCOMES[outcome]:
                        scores = found.setdefault(one.task, [[] for _ in range(self.wordings)])
                        scores[index].append(one.metrics[metric_of(one.task, measure)])
        return {task: np.array(scores) for task, scores in found.items()}

    def before(self, outcome: str, measure: str) -> float | None:
        """The outcome's score before the training; the task's own under its original instruction."""
        roles = ("original",) if outcome == "in_task" else OUTCOMES[outcome]
        found = [one for one in self.predictors.before if one.role in roles]
        means = [np.mean(one.metrics[metric_of(one.task, measure)]) for one in found]
        return float(np.mean(means)) if means else None


def metric_of(task: str, measure: str) -> str:
    """The metric that a measure is for a task."""
    if measure != "score":
        return measure
    return "exact_match" if read_about(task).labels else "rouge_l"


def read_results(params: Params) -> list[PairResults]:
    """The results of the settings' pairs and seeds; what else lies in the folders is not read.

    Raises OtherStudyError for files of other settings, versions or wordings than the rest.
    """
    study, results = params.study, []
    expected: dict[str, Any] | None = None
    for pair in study.checked_pairs(params.sequence):
        predictors = PairPredictors.read(predictors_path(pair))
        trainings = [PairTrainings.read(trainings_path(pair, seed)) for seed in study.seeds]
        expected = expected or _of_study(predictors.run)
        rows = study.model_dump(include=set(predictors.run.rows))
        files: list[tuple[str, PairPredictors | PairTrainings]] = [
            (str(predictors_path(pair)), predictors),
            *(
                (str(trainings_path(pair, seed)), one)
                for seed, one in zip(study.seeds, trainings, strict=True)
            ),
        ]
        for path, found in files:
            _expect(found.run.rows, rows, f"{path}: rows")
            _expect(found.pair.model_dump(), pair.model_dump(), f"{path}: pair")
            _expect(_of_study(found.run), expected, path)
            _expect(_of_pair(found.run), _of_pair(predictors.run), path)
        for seed, (path, _), one in zip(study.seeds, files[1:], trainings, strict=True):
            _expect({"seed": one.run.training.seed}, {"seed": seed}, path)
            numbers = [of.wording for of in one.wordings]
            _expect({"wordings": numbers}, {"wordings": [*range(study.wordings)]}, path)
            _check_tasks(path, one.wordings[0].tasks, [of.tasks for of in one.wordings[1:]])
        for name, of in predictors.predictors.items():
            if len(of.values) != study.wordings:
                raise OtherStudyError(f"{predictors_path(pair)}: {name} has {len(of.values)} values")
        results.append(PairResults(pair, predictors, trainings))
    return results


def _check_tasks(path: str, first: list[TaskRows], others: list[list[TaskRows]]) -> None:
    """Every wording has the same tasks with the same number of rows; the first has no `original` beside."""
    wanted = {(one.task, one.role): len(one.metrics["log_likelihood"]) for one in first}
    for number, tasks in enumerate(others, start=1):
        found = {
            (one.task, one.role): len(one.metrics["log_likelihood"])
            for one in tasks
            if one.role != "original"
        }
        if found != wanted:
            raise OtherStudyError(f"{path}: wording {number} was measured on other rows than the original")


def _of_study(run: StudyRecord) -> dict[str, Any]:
    return run.model_dump(exclude=OF_PAIR)


def _of_pair(run: StudyRecord) -> dict[str, Any]:
    pair = run.model_dump(include=OF_PAIR)
    del pair["training"]["seed"]
    return pair


def _expect(found: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
    for field in sorted(found.keys() | expected.keys()):
        one, other = found.get(field), expected.get(field)
        if isinstance(one, dict) and isinstance(other, dict):
            _expect(one, other, f"{where}: {field}")
        elif one != other:
            raise OtherStudyError(f"{where}: {field} is {one!r:.60}, expected {other!r:.60}")
