"""Loading the base model."""

from pathlib import Path

import pytest

from sapo.models.load import load_model


def test_loading_prints_nothing(tiny_base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    load_model(tiny_base, "float32")
    assert capfd.readouterr() == ("", "")
