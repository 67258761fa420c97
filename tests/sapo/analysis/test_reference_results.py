"""Results of the public implementation: AP, BWT, FWT from its files, and an error for what is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laboratory import REPOSITORY
from parity import FOLDER
from sapo.analysis.continual import continual_metrics
from sapo.analysis.reference_results import read_reference_results, score_of
from sapo.runtime.errors import DataError

PARITY = FOLDER / "cl_metrics.json"
FOLDERS = ["task195", "task1310", "task273", "task611", "task224"]
SETS = [
    "task195_sentiment140_classification",
    "task1310_amazonreview_rating_classification",
    "task273_europarl_classification",
    "task611_mutual_multi_turn_dialogue",
    "task224_scruples_anecdotes_ethical_judgment",
]
TRACE = {
    "cstance": "C-STANCE",
    "fomc": "FOMC",
    "meet": "MeetingBank",
    "py150": "Py150",
    "sciqa": "ScienceQA",
    "numgulecm": "NumGLUE-cm",
}
ZERO_SHOT = [50.0, 10.0, 30.0]
SCORES = [[90.0, 20.0, 25.0], [80.0, 60.0, 35.0], [70.0, 50.0, 95.0]]


def write_run(
    folder: Path, stages: list[str], sets: list[str], zero_shot: list[float], scores: list[list[float]]
) -> tuple[Path, Path]:
    """A run's files as the public scripts write them, other metrics included."""
    for number, (stage, row) in enumerate(zip(stages, scores, strict=True), start=1):
        target = folder / "outputs" / f"{number}-{stage}"
        target.mkdir(parents=True)
        content: dict[str, object] = {
            "epoch": 10.0,
            "predict_rougeL": 1.0,
            "predict_exact_match_for_task195": 3.0,
        }
        content |= {f"predict_eval_rougeL_for_{name}": value for name, value in zip(sets, row, strict=True)}
        (target / "all_results.json").write_text(json.dumps(content))
    initial = folder / "initial.json"
    initial.write_text(
        json.dumps({f"predict_eval_rougeL_for_{name}": v for name, v in zip(sets, zero_shot, strict=True)})
    )
    return folder / "outputs", initial


def test_the_metrics_are_those_of_the_scores_in_the_files(tmp_path: Path) -> None:
    outputs, initial = write_run(tmp_path, FOLDERS[:3], SETS[:3], ZERO_SHOT, SCORES)
    names, zero_shot, scores = read_reference_results(outputs, initial)
    assert (names, zero_shot, scores) == (FOLDERS[:3], ZERO_SHOT, SCORES)
    metrics = continual_metrics(zero_shot, scores)
    assert metrics["AP"] == pytest.approx(71.6667, abs=1e-4)
    assert metrics["BWT"] == pytest.approx(((80 - 90) + ((70 - 90) + (50 - 60)) / 2) / 2)
    assert metrics["FWT"] == pytest.approx((((20 - 10) + (25 - 30)) / 2 + (35 - 30)) / 2)


@pytest.mark.skipif(
    not PARITY.is_file(), reason="the worked values lie beside the repository, and not in every clone"
)
def test_worked_values_come_out_of_files_too(tmp_path: Path) -> None:
    for number, case in enumerate(json.loads(PARITY.read_text())):
        count = len(case["scores"])
        sets = [f"task{i}_set" for i in range(count)]
        folder = tmp_path / str(number)
        outputs, initial = write_run(
            folder, [f"task{i}" for i in range(count)], sets, case["zero_shot"], case["scores"]
        )
        _, zero_shot, scores = read_reference_results(outputs, initial)
        metrics = continual_metrics(zero_shot, scores)
        assert {name: metrics[name] for name in case["expected"]} == pytest.approx(case["expected"], abs=1e-4)


def test_fault_04_the_folders_of_trace_find_their_data_sets(tmp_path: Path) -> None:
    scores = [[float(10 * i + j) for j in range(6)] for i in range(6)]
    outputs, initial = write_run(tmp_path, list(TRACE), list(TRACE.values()), [1.0] * 6, scores)
    assert read_reference_results(outputs, initial) == (list(TRACE), [1.0] * 6, scores)


def test_names_may_be_given_where_the_folders_do_not_tell(tmp_path: Path) -> None:
    outputs, initial = write_run(tmp_path, ["a", "b", "c"], SETS[:3], ZERO_SHOT, SCORES)
    with pytest.raises(DataError, match=r"initial\.json has no ROUGE-L of a; it has: task1310"):
        read_reference_results(outputs, initial)
    assert read_reference_results(outputs, initial, SETS[:3])[2] == SCORES
    with pytest.raises(DataError, match="2 task names for 3 stages"):
        read_reference_results(outputs, initial, SETS[:2])


def test_fault_04_task19_is_not_task195_and_an_ambiguous_name_is_refused() -> None:
    scores = {"task195_a": 1.0, "task1510_x": 2.0, "task1510_x_ori": 3.0}
    path = Path("results.json")
    assert score_of("task195", scores, path) == 1.0
    assert score_of("task1510_x", scores, path) == 2.0
    with pytest.raises(DataError, match="no ROUGE-L of task19;"):
        score_of("task19", scores, path)
    with pytest.raises(DataError, match="more than one data set called task1510"):
        score_of("task1510", scores, path)


@settings(deadline=None, max_examples=30)
@given(
    numbers=st.lists(st.integers(1, 9999), min_size=1, max_size=8, unique=True), asked=st.integers(1, 9999)
)
def test_fault_04_a_name_finds_its_own_data_set_or_none(numbers: list[int], asked: int) -> None:
    scores = {f"task{number}_some_set": float(number) for number in numbers}
    if asked in numbers:
        assert score_of(f"task{asked}", scores, Path("f")) == asked
    else:
        with pytest.raises(DataError):
            score_of(f"task{asked}", scores, Path("f"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda run: (run / "outputs/2-task1310/all_results.json").unlink(),
            r"2-task1310/all_results\.json is missing",
        ),
        (
            lambda run: (run / "outputs/2-task1310").rename(run / "outputs/4-task1310"),
            "without a gap; found: 1-task195, 3-task273, 4",
        ),
        (lambda run: (run / "outputs/02-task9").mkdir(), "without a gap"),
        (lambda run: (run / "initial.json").unlink(), r"initial\.json is missing"),
        (lambda run: (run / "initial.json").write_text("{"), "not valid JSON"),
        (lambda run: (run / "initial.json").write_text("[]"), "expected an object"),
        (
            lambda run: (run / "initial.json").write_text('{"x_rougeL_for_task195_a": "high"}'),
            "'high', not a finite number",
        ),
        (
            lambda run: (run / "initial.json").write_text('{"rougeL_for_a": 1, "x_rougeL_for_a": 2}'),
            "two values of ROUGE-L for a",
        ),
        (
            lambda run: (run / "initial.json").write_text('{"rougeL_for_task195": NaN}'),
            "nan, not a finite number",
        ),
        (
            lambda run: (run / "initial.json").write_text('{"rougeL_for_task195": true}'),
            "True, not a finite number",
        ),
        (
            lambda run: (run / "initial.json").write_text('{"rougeL_for_task195": 1}'),
            "no ROUGE-L of task1310",
        ),
    ],
)
def test_fault_04_what_is_missing_is_an_error_that_names_it(tmp_path: Path, change, message: str) -> None:
    outputs, initial = write_run(tmp_path, FOLDERS[:3], SETS[:3], ZERO_SHOT, SCORES)
    change(tmp_path)
    with pytest.raises(DataError, match=message):
        read_reference_results(outputs, initial)


def test_the_command_prints_scores_and_metrics_or_one_line_of_error(tmp_path: Path) -> None:
    outputs, initial = write_run(tmp_path, FOLDERS[:3], SETS[:3], ZERO_SHOT, SCORES)
    command = [sys.executable, str(REPOSITORY / "tools/reference_results.py")]
    done = subprocess.run([*command, str(outputs), str(initial)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "AP 71.6667" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[1:5]] == ["base", *FOLDERS[:3]]
    done = subprocess.run([*command, str(tmp_path / "no"), str(initial)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}/no is not a folder\n"
