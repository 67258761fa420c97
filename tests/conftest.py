"""The tiny model: random weights, real tokenizer and chat template; every test gets its own."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from laboratory import REPOSITORY, copy_of, experiment, new_project
from sapo.artifacts.task import Example
from sapo.config import Lora, Model, Train
from sapo.models.load import load_model, load_tokenizer
from sapo.models.make import make_base
from sapo.prompts.encoder import Encoded, PromptEncoder


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line on what test_bad_inputs.py tried, and one on the known faults of tests/faults."""
    passed, failed = (terminalreporter.stats.get(outcome, []) for outcome in ("passed", "failed"))
    found = Counter(dict(report.user_properties).get("input") for report in passed)
    refused, accepted = found["refused"], found["accepted"]
    unclear = sum("test_bad_inputs.py" in report.nodeid for report in failed)
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
        warmup_ratio=0.05,
        max_grad_norm=1.0,
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
    folder = new_project(tmp_path_factory.mktemp("tiny") / "project")
    experiment(folder)
    return folder


@pytest.fixture(scope="session")
def two_methods(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same after a run of `olora` too, and what that run printed; not to be changed."""
    folder = copy_of(tiny_project, tmp_path_factory.mktemp("two") / "project")
    return folder, experiment(folder, "method=olora")
