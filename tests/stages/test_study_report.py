"""study_report on studies made by hand: what it writes is what was found."""

import csv
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sapo.artifacts.study_summary import STUDY, StudySummary
from sapo.study.report import report
from study_by_hand import PAIRS, study_by_hand, study_settings
from study_report import PLOTS, REPORT, study_report

PLANTED = {"loss": {"earlier": -0.3, "probe": -0.3}, "length": {}, "look_ahead": {"earlier": -0.2}}


@pytest.fixture
def reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The working folder after study_report, and what that printed."""
    monkeypatch.chdir(tmp_path)
    study_by_hand(study_settings(), PLANTED)
    study_report()
    return capsys.readouterr().out


def test_the_report_and_the_console_say_the_same(reported: str) -> None:
    text = REPORT.read_text(encoding="utf-8")
    said = reported.partition("\n\nthe whole report")[0].strip()
    assert said.startswith("- **Does the wording matter?** By log-likelihood")
    assert said in text
    assert not re.search(r"\{\w*\}|nan|None|inf\b", text)


def test_the_tables_hold_every_pair_outcome_and_predictor(reported: str) -> None:
    text, summary = REPORT.read_text(encoding="utf-8"), StudySummary.read(STUDY)
    for pair in summary.pairs:
        name = f"{pair.pair.task} after {pair.pair.after}"
        assert text.count(f"| {name} | in-task |") == 4
        assert f"| {name} | retained ~ unseen |" in text
    for about in summary.predictors.values():
        assert f"| {about.title} | no |" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for line, after in pairwise(lines):
        if set(after) <= set("|- "):
            assert line.count("|") == after.count("|")


def test_a_number_of_the_report_is_one_of_the_file(reported: str) -> None:
    of = StudySummary.read(STUDY).pairs[0].forecasts["log_likelihood"]["retained"]["loss"]
    shown = f"{of.correlation.value:.2f} [{of.correlation.low:.2f}, {of.correlation.high:.2f}]"
    [line] = [
        line
        for line in REPORT.read_text().splitlines()
        if line.startswith("| second after first | retained | log-likelihood") and f"| {of.chosen} |" in line
    ]
    assert shown in line
    assert f"{of.over_original.value:+.3f}" in line


def test_the_table_has_a_line_a_training(reported: str) -> None:
    with (PLOTS / "effects.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert len(lines) == len(PAIRS) * 21 * 2
    rows = json.loads(Path("study/rows/third-after-first-2.json").read_text())["wordings"][7]["tasks"]
    [earlier] = [one for one in rows if one["role"] == "earlier"]
    [line] = [
        one
        for one in lines
        if (one["task"], one["after"], one["wording"], one["seed"]) == ("third", "first", "7", "2")
    ]
    assert float(line["retained_log_likelihood"]) == pytest.approx(
        np.mean(earlier["log_likelihood"]), abs=1e-5
    )


@pytest.mark.parametrize("name", ["log_likelihood", "score", "spreads", "predictors"])
def test_figures_are_legible_and_not_empty(reported: str, name: str) -> None:
    with Image.open(PLOTS / f"{name}.png") as image:
        assert 700 <= image.width <= 1400
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert {(0, 114, 178), (213, 94, 0)} <= {colour for _, colour in colours}


def test_a_study_of_one_seed_and_few_wordings_has_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study_by_hand(study_settings(PAIRS[:1], wordings=5, seeds=[1]), PLANTED)
    study_report()
    text = REPORT.read_text(encoding="utf-8")
    assert not re.search(r"nan|None|inf\b", text)
    for path in PLOTS.glob("*.png"):  # the narrowest figures: no title or legend is cut off at their edges
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels[:, [0, -1]].min() == 255, path


def test_a_rival_that_does_better_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study_by_hand(study_settings(), {"loss": {}, "look_ahead": {"earlier": -0.3}})
    study_report()
    summary = StudySummary.read(STUDY)
    assert summary.better == ["look_ahead"]
    assert "Of 1 others these do: look_ahead" in report(summary)
    none = summary.model_copy(update={"better": []})
    assert "Of 1 others none does" in report(none)
