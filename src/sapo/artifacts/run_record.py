"""What decides a number, recorded beside it.

Equal runs give equal records, and nothing in them names a machine or a time.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic import JsonValue

from sapo.artifacts.schema import Part
from sapo.artifacts.task import about_path, read_about, split_path
from sapo.artifacts.versions import versions
from sapo.config import Params, Prompt
from sapo.runtime.files import sha256_file, sha256_json
from sapo.settings.method import AdapterKind

# These change memory and time; of a result at most the last digits, with dropout too (sapo.training.dropout)
EFFORT = {"batch_tokens", "checkpoints", "gradient_checkpointing"}

Settings = dict[str, JsonValue]  # a section of the settings without EFFORT


class PromptText(Part):
    """A task's prompt, beside a row's text."""

    instruction: str
    suffix: str
    language: str

    @property
    def sha256(self) -> str:
        return sha256_json([self.instruction, self.suffix, self.language])


class RunName(Part):
    """What a run is called in tables and titles."""

    method: str
    model: str
    seed: int
    sequence: str


class Reading(Part):
    """The settings that decide how any model reads any row."""

    prompt: Prompt
    dtype: str
    template_options: dict[str, bool | str]
    template: str  # sha256 of what the chat template puts around a text


class AnswerSettings(Reading):
    evaluate: Settings


class SelectionSettings(Reading):
    selection: Settings


class TrainingSettings(Reading):
    selector: str
    adapter: AdapterKind
    replay: float
    orthogonal_weight: float
    lora: Settings
    train: Settings
    target_modules: list[str]


class TestedTask(Part):
    """rows: test rows. test, about: sha256 of test.jsonl and task.json. prompt: of the PromptText used."""

    rows: int
    test: str
    about: str
    prompt: str


class AnswersRecord(Part):
    """What decides one stage's answers. base: model fingerprint. adapter: sha256 of its weights, if any."""

    base: str
    adapter: str | None
    settings: AnswerSettings
    tasks: dict[str, TestedTask]
    versions: dict[str, str]
    device: str


class SelectionRecord(Part):
    """What decides the losses of a task's candidates. adapter: the weights measured with, if any."""

    base: str
    adapter: str | None
    train: str  # sha256 of train.jsonl
    settings: SelectionSettings
    versions: dict[str, str]
    device: str


class EarlierRows(Part):
    """Rows of an earlier task that a later training reads again. rows: how many of the file."""

    task: str
    rows: int
    train: str  # sha256 of train.jsonl
    prompt: str  # that of the PromptText


class TrainingRecord(Part):
    """What decides one task's training.

    previous: sha256 of the weights of the stage before, if any. What became of them says settings.adapter.
    """

    base: str
    previous: str | None
    train: str  # sha256 of train.jsonl
    prompt: str  # that of the PromptText
    earlier: list[EarlierRows]
    seed: int
    settings: TrainingSettings
    versions: dict[str, str]
    device: str


def answers_record(
    params: Params,
    base: str,
    adapter: Path | None,
    asked: Mapping[str, PromptText],
    template: str,
    device: str,
) -> AnswersRecord:
    """The record of the answers to `asked`. base: model fingerprint. adapter: file of weights, if any."""
    engine = {"vllm": version("vllm")} if params.evaluate.engine == "vllm" else {}
    return AnswersRecord(
        base=base,
        adapter=_sha256(adapter),
        settings=AnswerSettings(
            **dict(reading(params, template)), evaluate=params.evaluate.model_dump(exclude=EFFORT)
        ),
        tasks={task: _tested(task, prompt) for task, prompt in asked.items()},
        versions=versions() | engine,
        device=device,
    )


def selection_record(
    params: Params, base: str, adapter: Path | None, task: str, template: str, device: str
) -> SelectionRecord:
    """The record of `task`'s candidate losses. base: model fingerprint. adapter: file of weights, if any."""
    return SelectionRecord(
        base=base,
        adapter=_sha256(adapter),
        train=sha256_file(split_path(task, "train")),
        settings=SelectionSettings(
            **dict(reading(params, template)), selection=params.selection.model_dump(exclude=EFFORT)
        ),
        versions=versions(),
        device=device,
    )


def training_record(
    params: Params,
    base: str,
    previous: Path | None,
    task: str,
    prompt: PromptText,
    *,
    earlier: Sequence[EarlierRows] = (),
    selector: str,
    template: str,
    device: str,
) -> TrainingRecord:
    """The record of `task`'s training. base: model fingerprint.

    previous: file of the weights of the stage before, if any. earlier: what it reads of earlier tasks.
    orthogonal_weight: of an optimiser step. Of the settings of `train` those that decide, as they are used.
    """
    train = params.train.model_dump(exclude=EFFORT | {"orthogonal_repeats"})
    train["dtype"] = params.train.dtype or params.model.dtype
    if params.train.warmup_steps is not None:
        del train["warmup_ratio"]
    settings = TrainingSettings(
        **dict(reading(params, template)),
        selector=selector,
        adapter=params.method.adapter,
        replay=params.method.replay,
        orthogonal_weight=params.orthogonal_weight,
        lora=params.lora.model_dump(),
        train=train,
        target_modules=params.model.target_modules,
    )
    return TrainingRecord(
        base=base,
        previous=_sha256(previous),
        train=sha256_file(split_path(task, "train")),
        prompt=prompt.sha256,
        earlier=list(earlier),
        seed=params.seed,
        settings=settings,
        versions=versions(),
        device=device,
    )


def reading(params: Params, template: str) -> Reading:
    """What decides how a model reads rows; template: PromptEncoder.template_sha256."""
    return Reading(
        prompt=params.prompt,
        dtype=params.model.dtype,
        template_options=params.model.template_options,
        template=template,
    )


def _sha256(path: Path | None) -> str | None:
    return sha256_file(path) if path else None


def _tested(task: str, prompt: PromptText) -> TestedTask:
    return TestedTask(
        rows=read_about(task).splits["test"].rows,
        test=sha256_file(split_path(task, "test")),
        about=sha256_file(about_path(task)),
        prompt=prompt.sha256,
    )
