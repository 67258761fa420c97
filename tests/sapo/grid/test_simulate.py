"""A schedule has the length that can be worked out by hand, and a large grid leaves few slots idle."""

import pytest

from grids import cell, pair, stages
from sapo.grid.plan import plan
from sapo.grid.simulate import Schedule, simulate

SECONDS = {"shared-data": 1.0, "shared-first": 5.0, "a": 10.0, "b": 20.0, "c": 12.0}


@pytest.mark.parametrize(
    ("slots", "seconds"),
    [
        (1, 48.0),  # all of it, one after another
        (2, 26.0),  # data; first and c; at 6 b until 26, at 13 a until 23
        (3, 26.0),  # data, first, b
    ],
)
def test_small_schedules_by_hand(slots: int, seconds: float) -> None:
    found = simulate(pair("a", "b", "c").units, SECONDS, slots)
    assert found.seconds == seconds
    assert found.busy == 48.0
    assert found.idle == pytest.approx(1 - 48 / (found.seconds * slots))


def test_needs_that_are_not_among_the_units_are_done() -> None:
    units = pair("a", "b", "c").units
    left = {name: units[name] for name in "ab"}
    assert simulate(left, SECONDS, 2) == Schedule(20.0, 30.0, 2)


def test_nothing_takes_no_time() -> None:
    assert simulate({}, {}, 4) == Schedule(0.0, 0.0, 4)
    assert simulate({}, {}, 4).idle == 0.0


def test_a_thousand_cells_on_64_places_leave_few_idle() -> None:
    names = [f"c{n}" for n in range(1000)]
    of_cell = {
        name: stages(
            {
                "data": [],
                f"base/{n % 4}": ["data"],
                f"train/{name}": [f"base/{n % 4}"],
                f"end/{name}": [f"train/{name}"],
            }
        )
        for n, name in enumerate(names)
    }
    made = plan(of_cell, [cell(name) for name in names], lambda stage: False)
    length = {"data": 5.0, "base": 20.0, "train": 90.0, "end": 10.0}
    seconds = {
        name: sum(length[key.partition("/")[0]] * (1 + len(key) % 3) for key in unit.keys)
        for name, unit in made.units.items()
    }
    assert simulate(made.units, seconds, 64).idle < 0.10
