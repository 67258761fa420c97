"""What several cells need is one unit, once, before them; what is spread runs side by side."""

import pytest

from grids import cell, pair, stages
from sapo.grid.plan import plan, priorities, ready


def test_shared_stages_are_units_of_their_own_and_come_first() -> None:
    made = pair("a", "b", "c")
    assert {name: unit.keys for name, unit in made.units.items()} == {
        "shared-data": ("data",),
        "shared-first": ("first",),
        "a": ("train/a", "report/a"),
        "b": ("train/b", "report/b"),
        "c": ("first/c", "train/c", "report/c"),
    }
    needs = {name: set(unit.needs) for name, unit in made.units.items()}
    assert needs["shared-first"] == {"shared-data"}
    assert needs["a"] == needs["b"] == {"shared-first", "shared-data"}
    assert needs["c"] == {"shared-data"}
    order = list(made.units)
    assert all(order.index(need) < order.index(name) for name in order for need in needs[name])


def test_every_stage_is_in_one_unit() -> None:
    made = pair("a", "b", "c")
    keys = [key for unit in made.units.values() for key in unit.keys]
    assert sorted(keys) == sorted(made.stages)


def test_a_unit_knows_all_that_has_to_be_there() -> None:
    made = pair("a", "b", "c")
    assert made.whole(made.units["shared-first"]) == ["data", "first"]
    assert made.whole(made.units["c"]) == ["data", "first/c", "train/c", "report/c"]


def test_a_cell_whose_stages_others_need_too_still_ends_with_an_experiment() -> None:
    same = stages({"data": [], "report": ["data"]})
    made = plan({"a": same, "b": same}, [cell("a"), cell("b")], lambda stage: False)
    assert [(unit.name, unit.keys, unit.final) for unit in made.units.values()] == [
        ("shared-report", ("data", "report"), False),
        ("a", (), True),
        ("b", (), True),
    ]


def test_spread_stages_run_side_by_side_between_what_they_need_and_what_needs_them() -> None:
    chain = {"data": [], "model": ["data"], "one/1": ["model"], "one/2": ["model"], "end": ["one/1", "one/2"]}
    made = plan({"a": stages(chain)}, [cell("a")], lambda stage: stage.name == "one")
    assert {name: (unit.keys, unit.needs) for name, unit in made.units.items()} == {
        "shared-model": (("data", "model"), ()),
        "shared-one": (("one/1",), ("shared-model",)),
        "shared-one-2": (("one/2",), ("shared-model",)),
        "a": (("end",), ("shared-model", "shared-one", "shared-one-2")),
    }


def test_the_longest_way_to_go_comes_first() -> None:
    made = pair("a", "b", "c")
    seconds = {"shared-data": 1.0, "shared-first": 5.0, "a": 10.0, "b": 20.0, "c": 12.0}
    longest = priorities(made.units, seconds)
    assert longest == {"shared-data": 26.0, "shared-first": 25.0, "a": 10.0, "b": 20.0, "c": 12.0}
    assert ready(made.units, set(), set(), longest) == ["shared-data"]
    assert ready(made.units, {"shared-data"}, set(), longest) == ["shared-first", "c"]
    assert ready(made.units, {"shared-data", "shared-first"}, {"c"}, longest) == ["b", "a"]


def test_units_of_one_stage_have_names_of_their_own() -> None:
    of_cell = {
        name: stages({f"data/{n % 2}": [], f"end/{name}": [f"data/{n % 2}"]}) for n, name in enumerate("abcd")
    }
    made = plan(of_cell, [cell(name) for name in "abcd"], lambda stage: False)
    assert [name for name in made.units if name.startswith("shared")] == ["shared-data", "shared-data-2"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_units_wait_in_no_circle(count: int) -> None:
    names = [f"cell{n}" for n in range(count)]
    made = pair(*names, spread="first")
    done: set[str] = set()
    longest = priorities(made.units, dict.fromkeys(made.units, 1.0))
    while now := ready(made.units, done, set(), longest):
        done.update(now)
    assert done == set(made.units)
