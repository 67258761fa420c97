"""The figure of several methods: what it draws, and what it needs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.comparison import Group, Run
from sapo.analysis.figure_methods import methods
from sapo.analysis.figures import plt
from sapo.artifacts.summary import Summary
from sapo.runtime.errors import DataError

ORDER = ["first", "second"]


def group(label: str, seeds: int, lost: bool = False) -> Group:
    random = np.random.default_rng(0)
    runs = {}
    for seed in range(seeds):
        table = {task: random.uniform(0, 100, (3, len(METRICS), 5)) for task in [*ORDER, "probe"]}
        rows = None if lost else {"chosen": table, "original": table}
        runs[seed] = Run(f"{label}-{seed}", Summary.model_construct(), {}, rows, ORDER)
    return Group(label, runs)


def test_each_method_has_a_panel_with_every_trained_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(plt, "close", drawn.append)
    groups = [group("one", 3), group("two", 1)]
    methods(tmp_path / "figure.png", groups, "log_likelihood", "chosen")
    with Image.open(tmp_path / "figure.png") as image:
        assert image.width > image.height > 300
    axes = drawn[0].axes
    assert [axis.get_title() for axis in axes] == ["one\n(3 seeds)", "two\n(1 seed)"]
    assert axes[0].get_ylabel() == METRICS["log_likelihood"].label
    labels = [[line.get_label() for line in axis.lines if line.get_label() in ORDER] for axis in axes]
    assert labels == [ORDER, ORDER]
    number = list(METRICS).index("log_likelihood")
    tables = [run.rows["chosen"]["second"] for run in groups[0].runs.values() if run.rows]
    mean = np.mean([table[:, number].mean(-1) for table in tables], axis=0)
    [line] = [line for line in axes[0].lines if line.get_label() == "second"]
    np.testing.assert_allclose(line.get_ydata(), mean)


def test_no_method_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"figure\.png: no method to draw$"):
        methods(tmp_path / "figure.png", [], "rouge_l", "chosen")


def test_a_run_without_row_scores_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^lost: the row scores of a run are missing"):
        methods(tmp_path / "figure.png", [group("lost", 1, lost=True)], "rouge_l", "chosen")
