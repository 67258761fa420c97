"""AP, BWT, FWT and the metrics that belong to them against values worked by hand and shared."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity import FOLDER, TOLERANCE, worked
from sapo.analysis.continual import NAMES, continual_metrics
from sapo.runtime.errors import DataError

# zero-shot scores, R, expected
SEQUENCES: list[tuple[list[float], list[list[float]], dict[str, float]]] = [
    (
        [10, 20],
        [[50, 30], [40, 80]],
        {"AP": 60, "BWT": -10, "FWT": 10, "BWT_final": -10, "forgetting": 10, "new_task": 65},
    ),
    (
        [10, 20, 30],
        [[50, 26, 28], [56, 70, 36], [41, 64, 90]],
        {
            "AP": 65,
            "BWT": (6 + (-9 - 6) / 2) / 2,
            "FWT": ((6 - 2) / 2 + 6) / 2,
            "BWT_final": (-9 - 6) / 2,
            "forgetting": (15 + 6) / 2,  # the best score on the first task came one stage later
            "new_task": 70,
        },
    ),
    (
        [76.4827, 75.8262, 4.5241],
        [[79.8776, 85.8912, 11.6032], [100, 88.1517, 7.7024], [94.7548, 96.0744, 10.8594]],
        {"AP": 67.2295, "BWT": 15.7612, "FWT": 5.8752},
    ),
]


untimed = settings(deadline=None)  # how long a test takes depends on the machine
scores = st.floats(0, 100)
sizes = st.integers(2, 6)


@st.composite
def sequences(draw: st.DrawFn) -> tuple[list[float], list[list[float]]]:
    n = draw(sizes)
    row = st.lists(scores, min_size=n, max_size=n)
    return draw(row), draw(st.lists(row, min_size=n, max_size=n))


@pytest.mark.parametrize(("zero_shot", "matrix", "expected"), SEQUENCES)
def test_sequence_metrics_match_values_worked_by_hand(
    zero_shot: list[float], matrix: list[list[float]], expected: dict[str, float]
) -> None:
    result = continual_metrics(zero_shot, matrix)
    assert sorted(result) == sorted(NAMES)
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize(
    "case",
    worked("cl_metrics.json") or [None],
    ids=lambda case: f"{len(case['scores'])}_tasks" if case else "",
)
def test_sequence_metrics_match_the_shared_worked_values(case: dict[str, Any] | None) -> None:
    if case is None:
        pytest.skip(f"no worked values in {FOLDER}")
    result = continual_metrics(case["zero_shot"], case["scores"])
    assert {name: result[name] for name in case["expected"]} == pytest.approx(case["expected"], abs=TOLERANCE)


@untimed
@given(sequence=sequences(), probes=st.integers(1, 3), data=st.data())
def test_probes_have_a_level_and_a_change_and_leave_all_else_alone(
    sequence: tuple[list[float], list[list[float]]], probes: int, data: st.DataObject
) -> None:
    zero_shot, matrix = sequence
    columns = st.lists(scores, min_size=probes, max_size=probes)
    base, *_, last = unseen = [data.draw(columns) for _ in [zero_shot, *matrix]]
    rows = [row + more for row, more in zip([zero_shot, *matrix], unseen, strict=True)]
    result = continual_metrics(rows[0], rows[1:], probes)
    assert result.pop("unseen") == pytest.approx(sum(last) / probes)
    assert result.pop("unseen_change") == pytest.approx((sum(last) - sum(base)) / probes, abs=1e-9)
    assert result == continual_metrics(zero_shot, matrix)
    with pytest.raises(DataError, match="square matrix, 0 probes"):
        continual_metrics(rows[0], rows[1:])


@untimed
@given(score=scores, n=sizes)
def test_a_model_that_never_changes_transfers_and_forgets_nothing(score: float, n: int) -> None:
    result = continual_metrics([score] * n, [[score] * n] * n)
    assert [result[name] for name in ("BWT", "FWT", "BWT_final", "forgetting")] == pytest.approx([0] * 4)
    assert [result["AP"], result["new_task"]] == pytest.approx([score] * 2)


@untimed
@given(sequence=sequences())
def test_ap_is_the_mean_of_the_last_row_and_depends_on_no_other(
    sequence: tuple[list[float], list[list[float]]],
) -> None:
    zero_shot, matrix = sequence
    last = matrix[-1]
    assert continual_metrics(zero_shot, matrix)["AP"] == pytest.approx(sum(last) / len(last))
    others = [[0.0] * len(last)] * (len(last) - 1)
    assert continual_metrics([0.0] * len(last), [*others, last])["AP"] == pytest.approx(sum(last) / len(last))


@untimed
@given(sequence=sequences(), shift=st.floats(-50, 50))
def test_shifting_every_score_shifts_ap_and_leaves_the_transfers(
    sequence: tuple[list[float], list[list[float]]], shift: float
) -> None:
    zero_shot, matrix = sequence
    before = continual_metrics(zero_shot, matrix)
    after = continual_metrics(
        [value + shift for value in zero_shot], [[value + shift for value in row] for row in matrix]
    )
    for name, moved in {
        "AP": shift,
        "new_task": shift,
        "BWT": 0,
        "FWT": 0,
        "BWT_final": 0,
        "forgetting": 0,
    }.items():
        assert after[name] == pytest.approx(before[name] + moved, abs=1e-9), name


@untimed
@given(
    sequence=sequences(),
    bad=st.sampled_from([float("nan"), float("inf"), float("-inf"), None]),
    data=st.data(),
)
def test_fault_04_a_score_that_is_no_number_is_an_error_wherever_it_stands(
    sequence: tuple[list[float], list[list[float]]], bad: Any, data: st.DataObject
) -> None:
    zero_shot, matrix = sequence
    row = data.draw(st.sampled_from([zero_shot, *matrix]))
    row[data.draw(st.integers(0, len(row) - 1))] = bad
    with pytest.raises(DataError):
        continual_metrics(zero_shot, matrix)


@untimed
@given(sequence=sequences(), data=st.data())
def test_fault_04_a_missing_score_is_an_error_wherever_it_was(
    sequence: tuple[list[float], list[list[float]]], data: st.DataObject
) -> None:
    zero_shot, matrix = sequence
    data.draw(st.sampled_from([zero_shot, *matrix])).pop()
    with pytest.raises(DataError, match="square matrix"):
        continual_metrics(zero_shot, matrix)


@untimed
@given(sequence=sequences())
def test_fault_04_a_missing_stage_is_an_error(sequence: tuple[list[float], list[list[float]]]) -> None:
    zero_shot, matrix = sequence
    with pytest.raises(DataError, match="square matrix"):
        continual_metrics(zero_shot, matrix[:-1])
