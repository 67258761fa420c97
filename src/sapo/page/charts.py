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
        **dict.fromkeys(("labelColor", "titleColor", "domainColor", "tickColor", "gridColor"), PAPER),
        **{"gridOpacity": 0.15, "titleFontWeight": "normal", "titleFontSize": 12, "labelFontSize": 11},
    },
    "axisY": {"titlePadding": 12},
    "legend": {
        **{"labelColor": PAPER, "titleColor": PAPER, "labelFontSize": 11, "titleFontWeight": "normal"},
        **{"orient": "bottom", "columns": 2, "columnPadding": 20},
    },
}


Scale = tuple[float, float]


def scale(lines: Sequence[Line], metric: str) -> Scale:
    """The least and the highest value that charts of these lines show, the ends of intervals among them."""
    names = (metric, f"{metric}_low", f"{metric}_high")
    values = [line[name] for line in lines for name in names if line[name] is not None]
    return METRICS[metric].scale or (min(values), max(values))


def matrix(lines: Sequence[Line], metric: str, bounds: Scale) -> str:
    """The task x task matrix of a metric. lines: of scores.csv. bounds: `scale` of all that is shown."""
    spec, of, (low, high) = _template("matrix", metric), METRICS[metric], bounds
    cell, number, _ = spec["layer"]
    cell["encoding"]["color"] |= {"title": of.label, "scale": {"scheme": look.SCALE, "domain": [low, high]}}
    number["encoding"]["text"]["format"] = f".{of.decimals - 1}f"
    test = f"datum.{metric} < {low + look.DARK * (high - low)}"
    number["encoding"]["color"]["condition"]["test"] = test
    return _drawn(spec, lines, look.TASK, look.STAGE)


def stages(lines: Sequence[Line], metric: str, bounds: Scale) -> str:
    """Each task's score over the stages. lines, bounds: as of `matrix`."""
    of = METRICS[metric]
    spec = _template("stages" if of.scale else "likelihoods", metric)
    for layer in spec["layer"]:
        layer["encoding"]["y"]["scale"] |= {"domain": bounds}
    bars, *_ = spec["layer"]
    bars["transform"] = [{"filter": f"isValid(datum.{metric}_low)"}]  # one row has no interval
    return _drawn(spec, lines, look.STAGE, of.label)


def candidates(lines: Sequence[Line]) -> str:
    """Every candidate's loss. lines: those of candidates.csv, and `about`, what is told of each."""
    spec = _template("candidates")
    for layer in spec["layer"]:
        layer["encoding"]["description"] = {"field": "about"}
    return _drawn(spec, lines, look.CANDIDATE_LOSS, "task")


def training(lines: Sequence[Line]) -> str:
    """Each task's loss at every step. lines: those of training.csv."""
    return _drawn(_template("training"), lines, look.STEP, look.LOSS)


def _template(name: str, metric: str = "") -> dict[str, Any]:
    """The template's chart of one revision, with `metric` in place of the one that it shows in DVC."""
    text = (TEMPLATES / f"{name}.json").read_text(encoding="utf-8")
    shown = "log_likelihood" if name == "likelihoods" else "rouge_l"
    template = json.loads(re.sub(rf"\b{shown}(?=\b|_low\b|_high\b)", metric, text))
    return {"$schema": template["$schema"], **template["spec"]}


def _drawn(spec: dict[str, Any], lines: Sequence[Line], x_label: str, y_label: str) -> str:
    """The filled template as SVG."""
    text = json.dumps(spec).replace("<DVC_METRIC_X_LABEL>", x_label).replace("<DVC_METRIC_Y_LABEL>", y_label)
    spec = json.loads(text) | {"data": {"values": list(lines)}, "config": LOOK}
    svg = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE, allowed_base_urls=[])
    return _own_ids(svg)


def _own_ids(svg: str) -> str:
    """The chart with ids of its own, which do not tell how many were drawn before."""
    ids = list(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg)))
    for number, name in enumerate(ids):
        svg = re.sub(rf'(\bid="|url\(#){re.escape(name)}(?=["\)])', rf"\g<1>id-{number}", svg)
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]
    return re.sub(r'(\bid="|url\(#)id-', rf"\g<1>c{own}-", svg)
