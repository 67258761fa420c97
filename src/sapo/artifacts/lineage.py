"""models/TASK/lineage.json: how an adapter came to be, setting by setting and task by task."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import ClassVar, Self

from sapo.artifacts.run_record import EarlierRows, PromptText, TrainingRecord
from sapo.artifacts.schema import Artifact, Part
from sapo.artifacts.versions import versions
from sapo.config import Lora, Method, Params, Prompt, Train
from sapo.runtime.errors import OtherRunError
from sapo.runtime.outputs import write_json
from sapo.settings.method import AdapterKind

LINEAGE, WEIGHTS = "lineage.json", "adapter_model.safetensors"  # the latter is PEFT's name


class BaseOfAdapter(Part):
    """adapter: file name -> sha256 of the adapter that is part of the base model, null where none is."""

    name: str
    id: str
    revision: str | None
    fingerprint: str
    adapter: dict[str, str] | None


class MethodOfAdapter(Part):
    """What of a method decides how an adapter is trained; each task's prompt stands in its own entry."""

    name: str
    adapter: AdapterKind
    replay: float
    orthogonal_weight: float

    @classmethod
    def of(cls, method: Method) -> Self:
        return cls(**method.model_dump(include=set(cls.model_fields)))


class Step(Part):
    """One optimiser step. loss: nats a token, with the orthogonal term. grad_norm: before clipping."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    epoch: float


class Learned(Part):
    """One task of an adapter. original: its own instruction. selection: sha256 of its data/prompts file.

    rows, run, history: of the training at the task's own stage. rows: the task's own.
    """

    task: str
    prompt: PromptText
    original: str
    selector: str
    selection: str
    rows: int
    run: TrainingRecord
    history: list[Step]


class Lineage(Artifact):
    FORMAT: ClassVar[int] = 3
    base: BaseOfAdapter
    seed: int
    method: MethodOfAdapter
    lora: Lora
    train: Train
    prompt: Prompt
    sequence: str
    template_options: dict[str, bool | str]
    dtype: str
    versions: dict[str, str]
    tasks: list[Learned]

    @classmethod
    def of(cls, params: Params, base: BaseOfAdapter, tasks: Sequence[Learned]) -> Self:
        """The lineage of an adapter made with these settings."""
        return cls(
            base=base,
            seed=params.seed,
            method=MethodOfAdapter.of(params.method),
            lora=params.lora,
            train=params.train,
            prompt=params.prompt,
            sequence=params.sequence.name,
            template_options=params.model.template_options,
            dtype=params.model.dtype,
            versions=versions(),
            tasks=list(tasks),
        )

    def write(self, folder: Path) -> None:
        write_json(folder / LINEAGE, self.content())

    @property
    def learned(self) -> list[str]:
        return [entry.task for entry in self.tasks]

    @property
    def blocks(self) -> int:
        """How many LoRAs lie behind one another in the adapter: its rank is so many times lora.r."""
        return len(self.tasks) if self.method.adapter == "stacked" else 1

    def asked(self) -> dict[str, PromptText]:
        """Task -> the prompt that it was trained with."""
        return {entry.task: entry.prompt for entry in self.tasks}


def earlier_rows(method: Method | MethodOfAdapter, learned: Sequence[Learned]) -> list[EarlierRows]:
    """What a training after the tasks `learned` reads again: of each task's rows a share, rounded up.

    All of them with adapter `joint`, else the share that `replay` names.
    """
    # Of the number as it is written: 0.07 of 100 rows are 7, whatever the nearest binary number says
    share = Fraction(1) if method.adapter == "joint" else Fraction(repr(method.replay))
    return [
        EarlierRows(task=one.task, rows=ceil(share * one.rows), train=one.run.train, prompt=one.run.prompt)
        for one in learned
        if share
    ]


def model_folder(stage: str) -> Path:
    """The adapter after a stage."""
    return Path("models") / stage


def weights_path(stage: str) -> Path:
    """The weights of the adapter after a stage, in PEFT's file."""
    return model_folder(stage) / WEIGHTS


def read_lineage(folder: Path, tasks: Sequence[str] | None = None) -> Lineage:
    """The lineage of an adapter. Raises OtherRunError where it has not learned `tasks` in their order."""
    path = folder / LINEAGE
    lineage = Lineage.read(path)
    if not lineage.tasks or (tasks is not None and lineage.learned != list(tasks)):
        wanted = "" if tasks is None else f", expected {', '.join(tasks)}"
        raise OtherRunError(
            f"{path} is of another run: it has learned {', '.join(lineage.learned) or 'nothing'}{wanted}"
        )
    return lineage
