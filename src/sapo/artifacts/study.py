"""The files of the study: wordings, each wording's predictors, and the scores after each wording's training.

study/wordings/TASK.json, study/predictors/PAIR.json and study/rows/PAIR-SEED.json, all in Git.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict

from sapo.artifacts.candidates import Candidates
from sapo.artifacts.run_record import AnswersRecord, TrainingRecord
from sapo.artifacts.schema import Artifact, Part
from sapo.artifacts.task import Task
from sapo.runtime.errors import OtherStudyError
from sapo.runtime.outputs import write_json, write_lines
from sapo.settings.study import Pair

FOLDER = Path("study")
# own: the task under the wording it was trained with; original: under its original instruction; earlier: an
# earlier task under its own prompt; later: a later task, or probe: one that is never trained, under theirs
Role = Literal["own", "original", "earlier", "later", "probe"]
# What a wording changes. In-task is the role `own`, retained `earlier`, unseen `later` and `probe`
OUTCOMES: dict[str, tuple[Role, ...]] = {
    "in_task": ("own",),
    "retained": ("earlier",),
    "unseen": ("later", "probe"),
}


class TaskRows(Part):
    """The scores of a task's first test rows: metric -> a score a row, in the metric's unit."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, list[float]]
    task: str
    role: Role

    @classmethod
    def of(cls, task: str, role: Role, metrics: Mapping[str, Sequence[float]]) -> "TaskRows":
        """These scores, to 1e-6."""
        rounded = {metric: [round(value, 6) for value in values] for metric, values in metrics.items()}
        return cls.model_validate({"task": task, "role": role} | rounded)

    @property
    def metrics(self) -> dict[str, list[float]]:
        return self.__pydantic_extra__


class Trained(Artifact):
    """What one wording's training led to. loss: of its last step, nats a token."""

    wording: int
    loss: float
    tasks: list[TaskRows]


class StudyRecord(Part):
    """What decides the results of a pair. training.seed: the study's; training.prompt: of the original.

    wordings: sha256 of the file of wordings. rows: how many of each kind are read.
    """

    training: TrainingRecord
    answers: AnswersRecord
    wordings: str
    rows: dict[str, int]


class PairTrainings(Artifact):
    """All wordings' trainings of a pair with one seed."""

    pair: Pair
    seed: int
    run: StudyRecord
    wordings: list[Trained]

    def write(self) -> None:
        write_lines(trainings_path(self.pair, self.seed), self.content())


class AboutPredictor(Part):
    """passes: what a value costs, in passes of a row, backward ones counted twice.

    keeps_data: whether it reads rows of earlier tasks.
    """

    title: str
    unit: str
    passes: float
    keeps_data: bool


class PredictorValues(Part):
    """values: one a wording."""

    about: AboutPredictor
    values: list[float]


class PairPredictors(Artifact):
    """What is known of a pair's wordings before any is trained, and the scores of the model there is then.

    predictors: name -> values, see sapo.study.predictors.
    """

    pair: Pair
    run: StudyRecord
    predictors: dict[str, PredictorValues]
    before: list[TaskRows]

    def write(self) -> None:
        write_lines(predictors_path(self.pair), self.content())


def wordings_path(task: str) -> Path:
    return FOLDER / "wordings" / f"{task}.json"


def predictors_path(pair: Pair) -> Path:
    return FOLDER / "predictors" / f"{pair.name}.json"


def trainings_path(pair: Pair, seed: int) -> Path:
    return FOLDER / "rows" / f"{pair.name}-{seed}.json"


def write_wordings(candidates: Candidates) -> None:
    write_json(wordings_path(candidates.task), candidates.content())


def read_wordings(task: Task, count: int) -> list[str]:
    """The task's wordings, the original first. Raises OtherStudyError for others, or not `count` of them."""
    path = wordings_path(task.name)
    found = Candidates.read(path).candidates
    if found[:1] != [task.instruction] or len(found) != count:
        raise OtherStudyError(
            f"{path} is of another study: expected {count} wordings, the instruction of {task.name} first"
        )
    return found
