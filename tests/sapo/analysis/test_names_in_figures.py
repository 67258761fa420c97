"""Figures show the names of tasks and methods as they are written."""

from pathlib import Path

import pytest

from canaries import MARKUP
from sapo.analysis import figures


def test_figures_show_any_name_as_it_is(tmp_path: Path) -> None:
    order = ["a$b$", "$\\frac{a$", "%s {x} <b>&amp;", "_under"]
    training = [{"task": task, "step": step, "loss": 1.0 / step} for task in order for step in (1, 2)]
    figures.training(tmp_path / "training.png", training, order, MARKUP)
    scored = [
        {"task": task, "candidate": n, "loss": 1.0 + n, "rows": 4, "chosen": n == 0}
        for task in order
        for n in (0, 1)
    ]
    figures.candidates(tmp_path / "candidates.png", scored, order, "$x$")
    figures.candidates(tmp_path / "formula.png", scored, order, "x")
    with figures.plt.rc_context({"text.parse_math": True}), pytest.raises(ValueError, match="frac"):
        figures.training(tmp_path / "parsed.png", training, order, MARKUP)
    figures.plt.close("all")
    pictures = [(tmp_path / f"{name}.png").read_bytes() for name in ("training", "candidates", "formula")]
    assert all(len(picture) > 5000 for picture in pictures)
    assert pictures[1] != pictures[2]  # the dollars are drawn
