"""report, run on scores, a lineage and chosen prompts made by hand."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from broken import DROP, edited
from by_hand import FINGERPRINT, LOSSES, TEST_ROWS, ByHand, run_by_hand, steps, write_provenance_by_hand
from pages import data_of
from report import report
from sapo.analysis.answer_metrics import METRICS
from sapo.artifacts.chosen_prompt import prompt_path
from sapo.artifacts.lineage import Lineage, weights_path
from sapo.artifacts.provenance import GATHERED, Code, RunProvenance
from sapo.artifacts.scores import rows_path
from sapo.artifacts.summary import DETAILS
from sapo.artifacts.versions import versions
from sapo.runtime.errors import DataError, OtherRunError

ORDER = ["reuters_r8", "election_tweets", "commonsense_qa", "xsum"]
PAGE = Path("plots/report.html")
IMAGES = ["matrix.png", "scores.png", "candidates.png", "training.png"]

SCORES = "metrics/scores/xsum.json"

# A row a stage, the base model first; a column a task. Exact match and ROUGE-1 are half of it, a
# log-likelihood is a hundredth of it less 2 nats a token, and under the original
# prompt every score of a trained model is 1 lower.
ROUGE_L: list[list[float]] = [
    [8, 4, 20, 12],
    [70, 30, 25, 13],
    [66, 80, 22, 10],
    [60, 84, 40, 15],
    [50, 75, 37, 20],
]
AP = (50 + 75 + 37 + 20) / 4
BWT = ((66 - 70) + ((60 - 70) + (84 - 80)) / 2 + ((50 - 70) + (75 - 80) + (37 - 40)) / 3) / 3
FWT = (((30 - 4) + (25 - 20) + (13 - 12)) / 3 + ((22 - 20) + (10 - 12)) / 2 + (15 - 12)) / 3
BWT_FINAL = ((50 - 70) + (75 - 80) + (37 - 40)) / 3
FORGETTING = ((70 - 50) + (84 - 75) + (40 - 37)) / 3
NEW_TASK = (70 + 80 + 40 + 20) / 4


def read_csv(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def metrics() -> dict[str, Any]:
    return json.loads(DETAILS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ByHand]:
    """A folder with all that a report reads; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = run_by_hand(ORDER, ROUGE_L)
        run.write()
    return folder, run


@pytest.fixture(scope="module")
def reported(made: tuple[Path, ByHand], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of it after the report, and what the report printed; not to be changed."""
    folder, printed = tmp_path_factory.mktemp("reported") / "project", io.StringIO()
    shutil.copytree(made[0], folder)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.chdir(folder)
        report()
    return folder, printed.getvalue()


@pytest.fixture
def done(reported: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The working folder has been reported; what that printed."""
    monkeypatch.chdir(reported[0])
    return reported[1]


@pytest.fixture
def run(made: tuple[Path, ByHand], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ByHand:
    """The working folder has all that a report reads, to be changed and then reported."""
    shutil.copytree(made[0], tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return deepcopy(made[1])


@pytest.mark.usefixtures("done")
def test_metrics_are_those_worked_by_hand() -> None:
    written = metrics()
    expected = {"AP": AP, "BWT": BWT, "FWT": FWT}
    expected |= {"BWT_final": BWT_FINAL, "forgetting": FORGETTING, "new_task": NEW_TASK}
    halves = {name: value / 2 for name, value in expected.items()}
    assert written["rouge_l"] == pytest.approx(expected, abs=1e-4)
    assert written["exact_match"] == written["rouge_1"] == pytest.approx(halves, abs=1e-4)
    nats = {name: value / 100 - 2 * (name in ("AP", "new_task")) for name, value in expected.items()}
    assert written["log_likelihood"] == pytest.approx(nats, abs=1e-4)
    lower = {"AP": 1, "new_task": 1, "FWT": 1, "BWT": 0, "BWT_final": 0, "forgetting": 0}
    under_original = {name: value - lower[name] for name, value in expected.items()}
    assert written["original_prompt"]["rouge_l"] == pytest.approx(under_original, abs=1e-4)
    assert (written["method"], written["sequence"]) == ("lora_inc_sapo", "by_hand")
    assert (written["base_fingerprint"], written["versions"]) == (FINGERPRINT, versions())


@pytest.mark.usefixtures("done")
def test_tables_hold_every_score_candidate_and_step() -> None:
    scores = read_csv("plots/scores.csv")
    cells = [(stage, task) for stage in ["base", *ORDER] for task in ORDER]
    assert [(row["stage"], row["task"]) for row in scores] == cells
    assert [float(row["rouge_l"]) for row in scores] == [value for line in ROUGE_L for value in line]
    nats = [value / 100 - 2 for line in ROUGE_L for value in line]
    assert [float(row["log_likelihood"]) for row in scores] == pytest.approx(nats)
    assert [float(row["exact_match"]) for row in scores] == [value / 2 for line in ROUGE_L for value in line]
    candidates = read_csv("plots/candidates.csv")
    numbers = [(task, number) for task in ORDER for number in range(3)]
    assert [(row["task"], int(row["candidate"])) for row in candidates] == numbers
    losses = [loss + number for number in range(4) for loss in LOSSES]
    assert [float(row["loss"]) for row in candidates] == losses
    assert [row["chosen"] for row in candidates] == ["False", "True", "False"] * 4
    training = read_csv("plots/training.csv")
    each = [(task, str(step)) for task in ORDER for step in (1, 2, 3)]
    assert [(row["task"], row["step"]) for row in training] == each
    assert [float(row["loss"]) for row in training] == [4.0 / step for step in (1, 2, 3)] * 4


def assert_drawn(name: str) -> None:
    with Image.open(Path("plots") / name) as image:
        assert image.format == "PNG"
        assert image.width >= 600, name
        assert image.height >= 300, name
        pixels = np.asarray(image.convert("L"))
    assert 0.005 < (pixels < 200).mean() < 0.9, f"{name} is blank or black"
    quarters = [part for half in np.array_split(pixels, 2) for part in np.array_split(half, 2, axis=1)]
    assert all((part < 200).any() for part in quarters), name


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize("name", IMAGES)
def test_every_figure_is_drawn(name: str) -> None:
    assert_drawn(name)


@pytest.mark.usefixtures("run")
def test_figures_tell_other_numbers_apart_and_repeat_the_same_ones() -> None:
    report()
    first = {name: (Path("plots") / name).read_bytes() for name in IMAGES}
    report()
    assert first == {name: (Path("plots") / name).read_bytes() for name in IMAGES}
    scores = [[*row] for row in ROUGE_L]
    scores[2][3] = 90
    changed = run_by_hand(ORDER, scores, losses=(2.5, 0.5, 3.0))
    changed.with_entry(0, history=steps((4.0, 3.5, 4.0 / 3)))
    changed.write()
    report()
    assert [name for name in IMAGES if (Path("plots") / name).read_bytes() == first[name]] == []


@pytest.mark.usefixtures("run")
def test_the_page_has_every_answer_and_repeats_its_bytes() -> None:
    report()
    first, content = PAGE.read_bytes(), data_of(PAGE)
    assert len(content["rows"]) == content["of"] == TEST_ROWS * len(ORDER)
    assert {content["texts"][answer[0]] for row in content["rows"] for answer in row[5]} == {
        f"{task} {number} after {stage}"
        for task in ORDER
        for number in range(TEST_ROWS)
        for stage in ["base", *ORDER]
    }
    assert len(first) < 2_000_000
    for name in Path("metrics/provenance").iterdir():  # when and where is not on it
        write_provenance_by_hand(name.stem, seconds=99.0, revision="c9", dirty=True)
    report()
    assert PAGE.read_bytes() == first


@pytest.mark.usefixtures("run")
def test_answers_of_another_run_are_refused_and_nothing_is_written() -> None:
    path = Path("data/predictions/xsum/reuters_r8.jsonl")
    path.write_text(path.read_text().replace('"rouge_l": 51.0', '"rouge_l": 52.0', 1))
    with pytest.raises(OtherRunError, match=r"the answers of xsum to reuters_r8 are of another run: rouge_l"):
        report()
    assert not DETAILS.exists()
    assert not PAGE.exists()


def test_a_method_with_the_original_prompt_has_no_candidates_and_still_its_metrics_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_by_hand(ORDER, ROUGE_L, losses=None).write()
    report()
    assert read_csv("plots/candidates.csv") == []
    assert Path("plots/candidates.csv").read_text() == "task,candidate,loss,rows,chosen\n"
    assert metrics()["rouge_l"]["BWT"] == pytest.approx(BWT, abs=1e-4)
    for name in IMAGES:
        assert_drawn(name)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("kind", ["scores", "scores_original_prompt"])
def test_fault_04_a_missing_score_is_named_and_a_longer_name_is_no_match(kind: str) -> None:
    score = {"rouge_l": 15.0, "exact_match": 7.5}
    edited(SCORES, {f"stages.3.{kind}.xsum_2": score, f"stages.3.{kind}.xsum": DROP})()
    with pytest.raises(DataError, match="'xsum'"):
        report()
    assert not DETAILS.exists()


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("metric", METRICS)
def test_fault_04_a_missing_metric_is_named(metric: str) -> None:
    edited(SCORES, {f"stages.0.scores.reuters_r8.{metric}": DROP})()
    with pytest.raises(DataError, match=metric):
        report()


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_fault_04_a_score_that_is_no_number_is_an_error(value: float | None) -> None:
    edited(SCORES, {"stages.4.scores.reuters_r8.rouge_l": value})()
    field = r"stages\.4\.scores\.reuters_r8\.rouge_l: .*None" if value is None else "not a finite number"
    with pytest.raises(DataError, match=rf"metrics/scores/xsum\.json.*{field}"):
        report()
    assert not DETAILS.exists()


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("stage", range(5))
def test_fault_04_a_missing_stage_is_an_error_that_names_file_and_stages(stage: int) -> None:
    edited(SCORES, {f"stages.{stage}": DROP})()
    with pytest.raises(DataError, match=r"metrics/scores/xsum\.json .* expected base, reuters_r8"):
        report()


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    "path", [SCORES, "models/xsum/lineage.json", "params.yaml", "data/prompts/commonsense_qa.json"]
)
def test_fault_04_a_missing_file_is_named(path: str) -> None:
    Path(path).unlink()
    with pytest.raises(DataError, match=f"{path} is missing"):
        report()
    assert not DETAILS.exists()


def test_stages_in_another_order_are_refused(run: ByHand) -> None:
    run.stages[1], run.stages[2] = run.stages[2], run.stages[1]
    run.write()
    with pytest.raises(DataError, match=r"metrics/scores/xsum\.json"):
        report()


def test_a_sequence_of_one_task_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_by_hand(["xsum"], [[12], [20]]).write()
    report()
    assert metrics()["rouge_l"]["AP"] == metrics()["rouge_l"]["new_task"] == 20
    assert all((Path("plots") / name).stat().st_size > 5000 for name in IMAGES)


def test_a_report_says_what_was_tested_with_what_and_how_sure_its_numbers_are(done: str) -> None:
    written = metrics()
    assert (written["seed"], written["device"], written["dtype"]) == (1, "cpu", "float32")
    assert written["test_rows"] == dict.fromkeys(ORDER, TEST_ROWS)
    assert re.fullmatch("[0-9a-f]{64}", written["test_fingerprint"])
    for kind in (written, written["original_prompt"]):
        for metric in METRICS:
            for name, value in kind[metric].items():
                low, high = kind[f"{metric}_interval"][name]
                assert low <= value <= high
    low, high = written["rouge_l_interval"]["AP"]  # four means of 20 rows that lie 1 above or below
    assert (high - low) / 2 == pytest.approx(2.093 / (20 * 4 - 4) ** 0.5, rel=0.1)
    assert f"ROUGE-L (%): AP {written['rouge_l']['AP']:.1f} [{low:.1f}, {high:.1f}]" in done
    nats, (low, high) = written["log_likelihood"]["AP"], written["log_likelihood_interval"]["AP"]
    assert f"log-likelihood (nats a token): AP {nats:.3f} [{low:.3f}, {high:.3f}]" in done
    assert "95 % interval over the choice of test rows; other seeds are not in it" in done
    for row in read_csv("plots/scores.csv"):
        assert float(row["rouge_l_low"]) <= float(row["rouge_l"]) <= float(row["rouge_l_high"])


@pytest.mark.usefixtures("run")
def test_when_and_where_every_stage_ran_is_gathered_apart_from_the_metrics() -> None:
    write_provenance_by_hand("train-xsum", seconds=4.0, revision="c2", dirty=True)
    report()
    gathered = RunProvenance.read(GATHERED)
    assert len(gathered.stages) == 13
    assert gathered.seconds == 12 * 2.5 + 4
    assert gathered.code == [Code(revision="c1", dirty=False), Code(revision="c2", dirty=True)]
    Path("metrics/provenance/train-xsum.json").unlink()
    with pytest.raises(DataError, match=r"metrics/provenance/train-xsum\.json is missing"):
        report()


@pytest.mark.parametrize(
    "change",
    [
        lambda lineage: {"method": lineage.method.model_copy(update={"name": "olora"})},
        lambda lineage: {"seed": 7},
        lambda lineage: {"base": lineage.base.model_copy(update={"name": "tiny_llama"})},
    ],
    ids=["method", "seed", "base"],
)
def test_models_of_another_method_seed_or_base_are_not_reported_under_these_parameters(
    change: Callable[[Lineage], dict[str, Any]], run: ByHand
) -> None:
    run.lineage = run.lineage.model_copy(update=change(run.lineage))
    run.write()
    with pytest.raises(DataError, match=r"params\.yaml has .* but the models were trained with"):
        report()


def test_rows_whose_means_are_other_scores_and_another_adapter_are_refused(run: ByHand) -> None:
    edited(SCORES, {"stages.2.scores.xsum.exact_match": 6.0})()
    message = r"rows of xsum after election_tweets have a mean exact_match of 5\.0+, but the .* say 6\.0"
    with pytest.raises(OtherRunError, match=message):
        report()
    run.write()
    weights_path("xsum").write_bytes(b"others")
    with pytest.raises(OtherRunError, match=r"stage xsum: adapter is not that of the models"):
        report()
    assert not DETAILS.exists()


def test_a_selection_that_is_not_the_one_before_the_training_is_refused(run: ByHand) -> None:
    """The chosen prompt is the same, and a loss another: the task was trained after another selection."""
    path = prompt_path("commonsense_qa")
    candidates = run.prompts["commonsense_qa"].candidates
    others = [*candidates[:2], candidates[2].model_copy(update={"loss": 9.0})]
    run.prompts["commonsense_qa"].model_copy(update={"candidates": others}).write()
    with pytest.raises(OtherRunError, match=f"{path} is not the selection that the model was trained after"):
        report()
    run.prompts["commonsense_qa"].write()
    report()
    assert DETAILS.is_file()


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("bad", [None, float("nan"), "50", True])
def test_fault_04_a_row_score_that_is_no_number_is_named(bad: Any) -> None:
    lines = rows_path("xsum").read_text().splitlines()
    line = json.loads(lines[7])
    line["rouge_l"][3] = bad
    rows_path("xsum").write_text("\n".join([*lines[:7], json.dumps(line), *lines[8:]]))
    what = "NaN is not a finite number" if bad != bad else r"rouge_l\.3: Input should be a valid number"
    with pytest.raises(DataError, match=rf"metrics/rows/xsum\.jsonl, line 8.*{what}"):
        report()
