"""The tiny model: random weights, real tokenizer and chat template; every test gets its own."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from laboratory import REPOSITORY, copy_of, experiment, new_project, study_settings
from sapo.artifacts.task import Example
from sapo.config import Lora, Model, Train
from sapo.models.load import load_model, load_tokenizer
from sapo.models.make import make_base
from sapo.prompts.encoder import Encoded, PromptEncoder
from study_paraphrase import study_paraphrase


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line on the bad inputs that were tried, and one on the known faults of tests/faults."""
    passed, failed = (terminalreporter.stats.get(outcome, []) for outcome in ("passed", "failed"))
    found = Counter(dict(report.user_properties).get("input") for report in passed)
    refused, accepted = found["refused"], found["accepted"]
    unclear = sum("stages/bad_inputs/" in report.nodeid for report in failed)
    if tried := refused + accepted + unclear:
        terminalreporter.write_line(
            f"inputs tried: {tried}; clear errors: {refused}; accepted as they should: {accepted}"
        )
    missed, caught = fault_numbers(failed), fault_numbers(passed)
    if named := missed | caught:
        terminalreporter.write_line(f"faults: {len(named)} named, {len(named - missed)} caught")


def fault_numbers(reports: Sequence[pytest.TestReport]) -> set[str]:
    """The numbers in the names of tests in tests/faults."""
    found = (re.search(r"faults/test_\w+\.py::test_fault_(\d\d)_", report.nodeid) for report in reports)
    return {number[1] for number in found if number}


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/base/ of the model `tiny_llama`."""
    model = Model.model_validate(yaml.safe_load((REPOSITORY / "conf/model/tiny_llama.yaml").read_text()))
    folder = tmp_path_factory.mktemp("models") / "base"
    folder.mkdir()
    make_base(model, folder, seed=0)
    return folder


@pytest.fixture
def new_model(tiny_base: Path) -> Callable[[], PreTrainedModel]:
    return lambda: load_model(tiny_base, "float32")


@pytest.fixture(scope="session")
def tokenizer(tiny_base: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_base)


@pytest.fixture(scope="session")
def encoder(tokenizer: PreTrainedTokenizerBase) -> PromptEncoder:
    return PromptEncoder(tokenizer, 400, {})


@pytest.fixture(scope="session")
def lora() -> Lora:
    return Lora(r=3, alpha=12, dropout=0.0, save_dtype="float32")


@pytest.fixture(scope="session")
def train_settings() -> Train:
    return Train(
        epochs=2,
        batch_size=4,
        batch_tokens=400,
        gradient_checkpointing=False,
        learning_rate=0.02,
        schedule="cosine",
        warmup_ratio=0.05,
        warmup_steps=None,
        max_grad_norm=1.0,
        dtype=None,
        orthogonal_repeats=1,
        checkpoints=4,
    )


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Twelve rows of very different lengths, some with braces, a control token's name or other scripts."""
    texts = [
        "short",
        "a {brace} and {{two}}",
        "naïve café, ünïcödé",
        "<|im_end|> is only text here",
        "文本 in two scripts",
        "x" * 90,
    ]
    return [
        Example(f"{text} number {i}", "yes" if i % 2 else "a longer no") for i, text in enumerate(texts * 2)
    ]


@pytest.fixture(scope="session")
def rows(encoder: PromptEncoder, examples: list[Example]) -> list[Encoded]:
    """The examples, each with its answer, under one instruction."""
    return encoder.encode("Say whether it is short.", "Answer yes or no.", "en", examples, answers=True)


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository after a run of the default method, on the tiny model and two tasks; not to be changed."""

    def make(folder: Path) -> str:
        return experiment(new_project(folder))

    return made_once(tmp_path_factory, "tiny_project", make)[0]


@pytest.fixture(scope="session")
def two_methods(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same after a run of `olora` too, and what that run printed; not to be changed."""

    def make(folder: Path) -> str:
        return experiment(copy_of(tiny_project, folder), "method=olora")

    return made_once(tmp_path_factory, "two_methods", make)


@pytest.fixture
def studied(tiny_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny run as the working folder, with the settings and wordings of a study of it."""
    project = copy_of(tiny_project, tmp_path / "project")
    monkeypatch.chdir(project)
    study_settings()
    study_paraphrase()
    return project


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], str]) -> tuple[Path, str]:
    """A folder that the first process to need it makes for all that run tests, and what making it printed."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    printed = folder.with_suffix(".printed")
    with FileLock(folder.with_suffix(".lock")):
        if not printed.exists():
            shutil.rmtree(folder, ignore_errors=True)
            printed.write_text(make(folder), encoding="utf-8")
    return folder, printed.read_text(encoding="utf-8")


# Folders of tests in the order in which they run: what fails fast comes first, those through DVC come last
ORDER = ("tests/test_", "tests/sapo/", "tests/faults/", "tests/tools/", "tests/stages/")
LAST = (
    "test_pipeline",
    "test_study",
    "test_kills",
    "test_launch",
    "test_remotes",
    "test_queue",
    "test_grid",
    "test_keys_and_markup",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> tuple[int, int]:
        folder = next((n for n, name in enumerate(ORDER) if item.nodeid.startswith(name)), len(ORDER))
        file = next((n for n, name in enumerate(LAST) if f"/{name}.py" in item.nodeid), len(LAST))
        return folder, file

    items.sort(key=place)
