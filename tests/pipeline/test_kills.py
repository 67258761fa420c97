"""A few kills at random points of a small pipeline, and one at a training that has written a checkpoint.

tests/pipeline/kills.py says what is done, and does more of it: `python tests/pipeline/kills.py --kills 20`.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import kills


def test_killed_anywhere_nothing_is_lost(tmp_path: Path) -> None:
    record = kills.experiment(tmp_path, "one", kills=2, seed=30)
    assert len(record.kills) == 3
    assert not record.different
    assert not record.left
    assert record.reruns >= 2  # a kill may come when the last stage has just ended
    [step, steps] = (int(word) for word in record.resumed[0].split() if word.isdigit())
    assert 0 < step < steps == 36


def test_kill_points_are_drawn_by_seed_and_time_and_one_is_aimed_at_a_checkpoint() -> None:
    timeline = {"": 2.0, "prepare": 3.0, "train@a": 50.0, "evaluate@a": 45.0}
    points = kills.points(timeline, 200, seed=3)
    assert points == kills.points(timeline, 200, seed=3) != kills.points(timeline, 200, seed=4)
    [aimed] = [point for point in points if point.seconds is None]
    assert aimed.stage == "train@a"
    drawn = [point for point in points if point.seconds is not None]
    assert len(drawn) == 200
    assert all(0 <= point.seconds < timeline[point.stage] for point in drawn)
    share = sum(point.stage == "train@a" for point in drawn) / len(drawn)
    assert share == pytest.approx(0.5, abs=0.1)
    assert {point.kind for point in drawn} == set(kills.KINDS)
    order = list(timeline)
    assert [order.index(point.stage) for point in points] == sorted(
        order.index(point.stage) for point in points
    )
