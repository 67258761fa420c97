"""Charts of the page: DVC's own Vega-Lite templates (.dvc/plots/), drawn as SVG when the report is made."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vl_convert

from sapo.analysis import look
from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.tables import Line

TEMPLATES = Path(__file__).parents[3] / ".dvc/plots"
VEGA_LITE = "5.8"  # the nearest to what DVC's own page loads
PAPER = "currentColor"  # the page's text colour, light or dark
# The font is vl-convert's own, so that the same numbers give the same bytes on any machine
LOOK: dict[str, Any] = {
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "background": None,
    "view": {"stroke": None},
    "axis": {
        **{key: PAPER for key in ("labelColor", "titleColor", "domainColor", "tickColor", "gridColor")},
        **{"gridOpacity": 0.15, "titleFontWeight": "normal", "titleFontSize": 12, "labelFontSize": 11},
    },
    "axisY": {"titlePadding": 12},
    "legend": {
        **{"labelColor": PAPER, "titleColor": PAPER, "labelFontSize": 11, "titleFontWeight": "normal"},
        **{"orient": "bottom", "columns": 2, "columnPadding": 20},
    },
    "header": {"labelColor": PAPER, "labelFontSize": 12},
}


def matrix(lines: Sequence[Line], metric: str) -> str:
    """The task x task matrix of a metric. lines: those of scores.csv; with `rev`, one matrix for each."""
    spec, of = _template("matrix", metric), METRICS[metric]
    values = [line[metric] for line in lines]
    low, high = of.scale or (min(values), max(values))
    cell, number, _ = spec["spec"]["layer"]
    cell["encoding"]["color"] |= {"title": of.label, "scale": {"scheme": look.SCALE, "domain": [low, high]}}
    number["encoding"]["text"]["format"] = f".{of.decimals - 1}f"
    test = f"datum.{metric} < {low + look.DARK * (high - low)}"
    number["encoding"]["color"]["condition"]["test"] = test
    return _drawn(spec, lines, look.TASK, look.STAGE)


def stages(lines: Sequence[Line], metric: str) -> str:
    """Each task's score over the stages, with the intervals. lines: as `matrix`."""
    of = METRICS[metric]
    name = "stages" if of.scale else "likelihoods"
    return _drawn(_template(name, metric), lines, look.STAGE, of.label)


def candidates(lines: Sequence[Line]) -> str:
    """Every candidate's loss. lines: those of candidates.csv, and in `about` what is shown of each on hover."""
    spec = _template("candidates")
    spec["spec"]["layer"][0]["encoding"]["description"] = {"field": "about"}
    return _drawn(spec, lines, look.LOSS, "task")


def training(lines: Sequence[Line]) -> str:
    """Each task's loss at every step. lines: those of training.csv."""
    return _drawn(_template("training"), lines, look.STEP, look.LOSS)


def _template(name: str, metric: str = "") -> dict[str, Any]:
    """The template, with `metric` in place of the one that it shows in DVC."""
    text = (TEMPLATES / f"{name}.json").read_text(encoding="utf-8")
    shown = "log_likelihood" if name == "likelihoods" else "rouge_l"
    spec: dict[str, Any] = json.loads(re.sub(rf"\b{shown}(?=\b|_low\b|_high\b)", metric, text))
    return spec


def _drawn(spec: dict[str, Any], lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """The filled template as SVG; without `rev` in the lines as one chart, else as one for each."""
    text = json.dumps(spec).replace("<DVC_METRIC_X_LABEL>", x_label).replace("<DVC_METRIC_Y_LABEL>", y_label)
    spec = json.loads(text)
    if "rev" in lines[0]:
        spec["columns"] = 3
    else:
        spec = spec["spec"] | {"$schema": spec["$schema"]}
    spec |= {"title": None, "data": {"values": list(lines)}, "config": LOOK}
    svg = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE, allowed_base_urls=[])
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]  # several charts of a page may not share an id
    return re.sub(r'(id="|url\(#)(?=\w)', rf"\g<1>c{own}-", svg)
