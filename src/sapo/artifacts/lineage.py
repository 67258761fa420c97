"""models/TASK/lineage.json: how an adapter came to be, setting by setting and task by task."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from sapo.artifacts.run_record import PromptText, TrainingRecord
from sapo.artifacts.schema import Artifact, Part
from sapo.config import Lora, Method, Prompt, Train
from sapo.runtime.errors import OtherRunError
from sapo.runtime.outputs import write_json

LINEAGE, WEIGHTS = "lineage.json", "adapter_model.safetensors"  # the latter is PEFT's name


class BaseOfAdapter(Part):
    """adapter: file name -> sha256 of the adapter that is part of the base model, null where none is."""

    name: str
    id: str
    revision: str | None
    fingerprint: str
    adapter: dict[str, str] | None


class Step(Part):
    """One optimiser step. loss: nats a token, with the orthogonal term. grad_norm: before clipping."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    epoch: float


class Learned(Part):
    """One task of an adapter. original: its own instruction. selection: sha256 of its data/prompts file."""

    task: str
    prompt: PromptText
    original: str
    selector: str
    selection: str
    rows: int
    run: TrainingRecord
    history: list[Step]


class Lineage(Artifact):
    FORMAT: ClassVar[int] = 3  # 2: no adapter in the base model
    base: BaseOfAdapter
    seed: int
    method: Method
    lora: Lora
    train: Train
    prompt: Prompt
    sequence: str
    template_options: dict[str, bool | str]
    dtype: str
    versions: dict[str, str]
    tasks: list[Learned]

    def write(self, folder: Path) -> None:
        write_json(folder / LINEAGE, self.content())

    @property
    def learned(self) -> list[str]:
        return [entry.task for entry in self.tasks]

    def asked(self) -> dict[str, PromptText]:
        """Task -> the prompt that it was trained with."""
        return {entry.task: entry.prompt for entry in self.tasks}


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
