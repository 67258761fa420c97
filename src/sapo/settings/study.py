"""Section `study`: which trainings are repeated under many wordings, and what is measured of each."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator, model_validator

from sapo.runtime.errors import DataError
from sapo.settings.section import Name, Section

if TYPE_CHECKING:
    from sapo.config import Sequence

FEWEST = 5  # wordings: a correlation of fewer has no interval worth the name


class Pair(Section):
    """A task, and the stage whose model it is trained from: at least one task has been learned there."""

    task: str
    after: str

    @property
    def name(self) -> str:
        return f"{self.task}-after-{self.after}"


class Study(Section):
    name: Name
    pairs: Annotated[list[Pair], Field(min_length=1)]
    wordings: Annotated[int, Field(ge=FEWEST, lt=2**31)]  # of a task: the original, and one less paraphrases
    # Of the new LoRA and the order of rows, as `seed` is of a run: a training each
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=4_000_000_000)]], Field(min_length=1)]
    train_rows: Annotated[int, Field(ge=1, lt=2**31)]  # the first ones of the task, as all below
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    test_rows: Annotated[int, Field(ge=2, lt=2**31)]  # of the task itself and of each earlier one
    other_rows: Annotated[int, Field(ge=2, lt=2**31)]  # of each task that has not been trained
    steps: Annotated[int, Field(ge=1, lt=2**31)]  # of the predictor that looks ahead

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if twice := {seed for seed in seeds if seeds.count(seed) > 1}:
            raise ValueError(f"{', '.join(map(str, sorted(twice)))} is named twice")
        return seeds

    @model_validator(mode="after")
    def _pairs_differ(self) -> "Study":
        names = [pair.name for pair in self.pairs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"pairs: {', '.join(sorted(twice))} is named twice")
        return self

    @property
    def tasks(self) -> list[str]:
        """The tasks that are trained, each once."""
        return list(dict.fromkeys(pair.task for pair in self.pairs))

    def checked_pairs(self, sequence: "Sequence") -> list[Pair]:
        """The pairs. Raises DataError for one that the sequence does not have."""
        order = sequence.order
        for pair in self.pairs:
            where = f"study.pairs: {pair.task} after {pair.after}"
            if pair.task in sequence.probes:
                raise DataError(f"{where}: {pair.task} is a probe, and a probe is never trained")
            for name in (pair.task, pair.after):
                if name not in order:
                    tasks = ", ".join(order)
                    raise DataError(
                        f"{where}: {name!r} is not a task of sequence {sequence.name}, which has {tasks}"
                    )
            if order.index(pair.after) >= order.index(pair.task):
                raise DataError(f"{where}: in sequence {sequence.name}, {pair.after} does not come first")
        return self.pairs

    def pair(self, sequence: "Sequence", task: str, after: str) -> Pair:
        """The pair of this task and stage. Raises DataError where the settings do not name it."""
        pair = Pair(task=task, after=after)
        if pair not in self.checked_pairs(sequence):
            raise DataError(f"study.pairs has no {task} after {after}")
        return pair
