"""Stages and cells for tests of what is decided before anything runs."""

from collections.abc import Mapping, Sequence

from sapo.grid.axes import Cell
from sapo.grid.pipeline import Stage
from sapo.grid.plan import Plan, plan


def cell(name: str) -> Cell:
    return Cell(name, (f"name={name}",), {"name": name}, f"name: {name}\n")


def stages(chain: Mapping[str, Sequence[str]]) -> dict[str, Stage]:
    """Stages by key: the name and the keys that it needs."""
    return {
        key: Stage(
            key,
            key.partition("/")[0],
            "dvc.yaml",
            key,
            tuple((need, need) for need in needs),
            {},
            {key: True},
            True,
        )
        for key, needs in chain.items()
    }


def pair(*names: str, spread: str = "-") -> Plan:
    """Cells that share `data` and, the first two, `first`; each with a `train` and a `report` of its own."""
    of_cell = {}
    for n, name in enumerate(names):
        first = "first" if n < 2 else f"first/{name}"
        train, end = f"train/{name}", f"report/{name}"
        of_cell[name] = stages({"data": [], first: ["data"], train: [first], end: [train, "data"]})
    return plan(of_cell, [cell(name) for name in names], lambda stage: stage.name == spread)
