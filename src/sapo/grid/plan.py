"""What runs once and what runs in each cell: units of work, and what each waits for.

Stages that the same cells need are one unit, run once, first; what a cell alone needs is the cell's own unit,
which ends with its experiment. A stage is never needed by a cell that does not need the stages before it, so
units wait for each other in no circle.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sapo.grid.axes import Cell
from sapo.grid.pipeline import Stage, closure

LEAST = 1.0  # seconds that a stage of unknown length counts: more stages are longer


@dataclass(frozen=True)
class Unit:
    """Work for one clone. keys: the stages that it may have to run; those of earlier units come back to it.

    cell: whose settings it runs with. final: it ends with the cell's experiment.
    """

    name: str
    cell: Cell
    keys: tuple[str, ...]
    needs: tuple[str, ...] = ()
    final: bool = False


@dataclass
class Plan:
    """cells by name; stages by key, of all cells; units by name, each after those that it needs."""

    cells: dict[str, Cell]
    stages: dict[str, Stage]
    of_cell: dict[str, dict[str, Stage]]
    units: dict[str, Unit] = field(default_factory=dict)

    def whole(self, unit: Unit) -> list[str]:
        """All stages that must be there when the unit ends, in their order."""
        stages = self.of_cell[unit.cell.name]
        if unit.final:
            return list(stages)
        return closure(unit.keys, stages)


@dataclass(frozen=True)
class Look:
    """A plan and what it finds. finished: the keys of stages that need not run."""

    plan: Plan
    finished: set[str]


def plan(
    of_cell: Mapping[str, dict[str, Stage]], cells: Sequence[Cell], spread: Callable[[Stage], bool]
) -> Plan:
    """Divide the cells' stages into units. `spread`: the stages that are a unit each, to run side by side."""
    made = Plan({cell.name: cell for cell in cells}, {}, dict(of_cell))
    users: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        for key, stage in of_cell[cell.name].items():
            made.stages.setdefault(key, stage)
            users[key].append(cell.name)
    level: dict[str, int] = {}
    before_spread = set[str]()
    for stages in of_cell.values():
        for key, stage in stages.items():
            level[key] = max((level[need] for need in stage.needs), default=0) + spread(stage)
        for key, stage in reversed(list(stages.items())):
            if spread(stage) or key in before_spread:
                before_spread.update([key, *stage.needs])
    groups: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for key, stage in made.stages.items():
        together = tuple(users[key])
        if spread(stage):
            groups[together, level[key], key].append(key)
        elif len(together) > 1 or key in before_spread:
            groups[together, level[key]].append(key)
        else:
            groups[together,].append(key)
    unit_of = {key: group for group, keys in groups.items() for key in keys}
    names = named(groups, made.stages)
    for cell in cells:
        groups.setdefault(((cell.name,),), [])  # all of it is shared: what is left is the experiment
        names[((cell.name,),)] = cell.name
    order = {group: n for n, group in enumerate(groups)}

    def build(group: tuple[object, ...]) -> None:
        if names[group] in made.units:
            return
        keys, final = groups[group], len(group) == 1
        cell = made.cells[group[0][0]]  # type: ignore[index]
        wanted = list(of_cell[cell.name]) if final else keys
        before = {unit_of[need] for key in wanted for need in made.stages[key].needs if need in unit_of}
        before |= {unit_of[key] for key in wanted}
        before.discard(group)
        for other in sorted(before, key=order.__getitem__):
            build(other)
        needs = tuple(names[other] for other in sorted(before, key=order.__getitem__))
        made.units[names[group]] = Unit(names[group], cell, tuple(keys), needs, final)

    for group in list(groups):
        build(group)
    return made


def named(
    groups: Mapping[tuple[object, ...], list[str]], stages: Mapping[str, Stage]
) -> dict[tuple[object, ...], str]:
    """A name of each unit that is no cell: its last stage and, where several have that, a number."""
    names, taken = {}, defaultdict[str, int](int)
    for group, keys in groups.items():
        if len(group) > 1:
            base = stages[keys[-1]].name
            taken[base] += 1
            names[group] = f"shared-{base}" + (f"-{taken[base]}" if taken[base] > 1 else "")
    return names


def priorities(units: Mapping[str, Unit], seconds: Mapping[str, float]) -> dict[str, float]:
    """The seconds from the start of each unit to the end of the longest chain that waits for it."""
    followers: dict[str, list[str]] = defaultdict(list)
    for unit in units.values():
        for need in unit.needs:
            followers[need].append(unit.name)
    longest: dict[str, float] = {}
    for name in reversed(list(units)):
        longest[name] = seconds[name] + max((longest[other] for other in followers[name]), default=0.0)
    return longest


def ready(
    units: Mapping[str, Unit], done: set[str], taken: set[str], longest: Mapping[str, float]
) -> list[str]:
    """The units that nothing is missing for, the one with the longest way to go first."""
    begun = done | taken
    free = [name for name, unit in units.items() if name not in begun and done.issuperset(unit.needs)]
    return sorted(free, key=lambda name: -longest[name])
