"""The page's charts are DVC's templates, and look as the PNGs do."""

import json
import re
from xml.etree import ElementTree

import pytest
import yaml

from laboratory import REPOSITORY
from sapo.analysis import look
from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.tables import ENDS
from sapo.page import charts

LINES = [
    {"stage": stage, "task": task} | dict.fromkeys(METRICS, value) | dict.fromkeys(ENDS, value)
    for stage, task, value in (("base", "a", 1.0), ("base", "b", 2.5), ("a", "a", 70.0), ("a", "b", 3.0))
]


def said(svg: str) -> list[str]:
    """What the marks of a chart stand for."""
    root = ElementTree.fromstring(svg)
    return [mark.attrib["aria-label"] for mark in root.iter() if "aria-label" in mark.attrib]


@pytest.mark.parametrize("metric", METRICS)
def test_the_charts_of_a_metric_show_each_of_its_scores(metric: str) -> None:
    bounds = charts.scale(LINES, metric)
    label = METRICS[metric].label
    shown = said(charts.stages(LINES, metric, bounds))
    assert f"{look.STAGE}: a; {label}: 70; task: a" in shown
    cells = said(charts.matrix(LINES, metric, bounds))
    assert any(text.startswith(f"{look.TASK}: b; {look.STAGE}: a; {label}: 3") for text in cells)
    assert "DVC_METRIC" not in "".join(shown + cells)


def test_scores_without_an_interval_have_no_bars() -> None:
    bare = [line | dict.fromkeys(ENDS) for line in LINES]
    bars = [charts.stages(lines, "rouge_l", (0, 100)).count("<line") for lines in (LINES, bare)]
    assert bars[0] > bars[1]


def test_the_same_numbers_give_the_same_bytes_and_ids_are_a_chart_s_own() -> None:
    one, again = (charts.matrix(LINES, "rouge_l", (0, 100)) for _ in range(2))
    other = charts.matrix(LINES[:3], "rouge_l", (0, 100))
    assert one == again
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert all(f"url(#{name})" in one for name in ids[0])


def test_names_are_text_in_a_chart() -> None:
    name = "<script>alert(1)</script>&\"'"
    svg = charts.training([{"task": name, "step": step, "loss": 1.0} for step in (1, 2)])
    assert "<script" not in svg
    assert any(name in text for text in said(svg))


def values(content: object, key: str) -> list[object]:
    """All values of a key, however deep."""
    if isinstance(content, list):
        return [value for one in content for value in values(one, key)]
    if not isinstance(content, dict):
        return []
    own = [content[key]] if key in content else []
    return own + [value for one in content.values() for value in values(one, key)]


def test_dvc_s_templates_and_plots_look_as_figures_and_page_do() -> None:
    templates = {path.stem: json.loads(path.read_text()) for path in (REPOSITORY / ".dvc/plots").iterdir()}
    for name in ("stages", "likelihoods", "training"):
        ranges = values(templates[name], "range")
        assert look.COLOURS in ranges
        assert look.SHAPES in ranges
        assert all(found in (look.COLOURS, look.SHAPES) for found in ranges)
    assert [look.PARAPHRASE, look.ORIGINAL] in values(templates["candidates"], "range")
    assert values(templates["matrix"], "scheme") == [look.SCALE]
    assert f"datum.rouge_l < {100 * look.DARK:.0f}" in values(templates["matrix"], "test")
    plots = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["plots"]
    drawn = {
        plot["template"]: (plot["title"], plot["x_label"], plot["y_label"])
        for named in plots
        if isinstance(named, dict)
        for plot in named.values()
    }
    first, likelihood = METRICS["rouge_l"], METRICS["log_likelihood"]
    assert drawn == {
        "matrix": (look.MATRIX.format(metric=first.title), look.TASK, look.STAGE),
        "stages": (look.STAGES.format(metric=first.title), look.STAGE, first.label),
        "likelihoods": (look.STAGES.format(metric=likelihood.title), look.STAGE, likelihood.label),
        "candidates": (look.CANDIDATES, look.CANDIDATE_LOSS, "task"),
        "training": (look.TRAINING, look.STEP, look.LOSS),
    }
