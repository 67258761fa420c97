"""The benchmarks' modules, which import each other by their names as scripts do."""

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from laboratory import REPOSITORY


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of benchmarks/; the environment that it sets is this test's alone."""
    for name in ("TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def arguments(load: Callable[[str], Any], tmp_path: Path) -> Callable[..., argparse.Namespace]:
    """A tiny run's command line, with its results in the test's folder."""
    parser = load("gpu").options()
    return lambda *given: parser.parse_args(["--tiny", "--out", str(tmp_path / "out"), *given])


@pytest.fixture
def command() -> Callable[..., str]:
    """Run a Python script and give what it prints; its success (or failure) is asserted."""

    def run(*words: str | Path, fails: bool = False, **options: Any) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )
        assert (done.returncode != 0) == fails, done.stdout[-4000:]
        return done.stdout

    return run
