"""What `--dry` lists before, and the summary tells after a grid."""

from collections.abc import Iterable
from pathlib import Path

from sapo.grid.driver import State, left_out
from sapo.grid.estimates import START, Durations, Sizes
from sapo.grid.plan import Look, Plan
from sapo.grid.progress import as_time
from sapo.grid.simulate import simulate
from sapo.grid.work import log_of


def expected(look: Look, durations: Durations) -> dict[str, float]:
    """Seconds of each unit: a clone and a DVC, and the stages that have to run."""
    of, finished = look.plan.stages, look.finished
    return {
        name: START + sum(durations.of(of[key]) or 0.0 for key in unit.keys if key not in finished)
        for name, unit in look.plan.units.items()
    }


def dry(look: Look, before: set[str], durations: Durations, sizes: Sizes, slots: int) -> list[str]:
    """Cells and stages, those that are in the cache apart, and estimates of time and disk."""
    lines, plan, finished = list[str](), look.plan, look.finished
    width = max(map(len, plan.units), default=0)
    for name, unit in plan.units.items():
        to_run = [plan.stages[key].name for key in unit.keys if key not in finished]
        in_cache = [plan.stages[key].name for key in unit.keys if key in finished]
        if name in before:
            lines.append(f"{name:{width}}  is done already")
            continue
        parts = [f"run {listed(to_run)}"] if to_run else []
        parts += [f"in the cache {listed(in_cache)}"] if in_cache else []
        parts += [f"after {', '.join(unit.needs)}"] if unit.needs and not unit.final else []
        lines.append(f"{name:{width}}  {'; '.join(parts) or 'all of it is shared'}")
    wanted = wanted_units(look, before)
    keys = [key for name in wanted for key in plan.units[name].keys]
    run = [key for key in keys if key not in finished]
    cells = len(plan.cells)
    lines.append(
        f"cells: {cells}, {len(before)} done already; stages: {len(run)} to run, "
        f"{len(keys) - len(run)} in the cache; "
        f"each cell alone would be {sum(len(of) for of in plan.of_cell.values())} in all"
    )
    first = [plan.stages[key].name for key in run if not plan.stages[key].needs]
    if len(set(first)) < len(first):
        lines.append("or fewer: which first tasks several sequences have in common is known with their rows")
    unknown = sorted(
        {plan.stages[key].name.partition("@")[0] for key in run if durations.of(plan.stages[key]) is None}
    )
    seconds = expected(look, durations)
    schedule = simulate(
        {name: plan.units[name] for name in wanted}, {name: seconds[name] for name in wanted}, slots
    )
    told = f"about {as_time(schedule.seconds)}, {slots} at a time (idle: {schedule.idle:.0%} of it)"
    if unknown:
        told += f"; never measured here, and not counted: {', '.join(unknown)}"
    lines.append(told)
    clone = max((sizes.clone(plan.of_cell[name]) for name in plan.cells), default=0)
    new = sizes.cache({key: plan.stages[key] for key in run})
    lines.append(
        f"disk, by the sizes in dvc.lock: about {of_disk(new)} more in the cache, "
        f"{of_disk(min(slots, len(wanted)) * clone)} in clones while they run"
    )
    return lines


def of_disk(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def wanted_units(look: Look, before: set[str]) -> list[str]:
    """The units that have to run: cells that are not done before, and what these need and no cache has."""
    plan, finished, wanted = look.plan, look.finished, set[str]()
    waiting = [name for name in plan.cells if name not in before]
    while waiting:
        name = waiting.pop()
        unit = plan.units[name]
        if name in wanted or (not unit.final and finished.issuperset(unit.keys)):
            continue
        wanted.add(name)
        waiting += unit.needs
    return [name for name in plan.units if name in wanted]


def listed(names: Iterable[str]) -> str:
    """train@a, train@b as train@a,b, so that a line holds many."""
    groups: dict[str, list[str]] = {}
    for name in names:
        kind, _, item = name.partition("@")
        groups.setdefault(kind, []).append(item)
    return " ".join(f"{kind}@{','.join(items)}" if any(items) else kind for kind, items in groups.items())


def summary(plan: Plan, state: State, before: set[str], folder: Path, seconds: float) -> list[str]:
    """What is finished, what failed and why, and how often stages ran."""
    finished = state.done & plan.cells.keys() - before
    lines = []
    for name, outcome in state.failed.items():
        lines.append(f"{name} failed: {outcome.error}")
        lines += [f"    {line}" for line in outcome.tail]
        if not outcome.unfit:
            lines.append(f"    the whole log: {log_of(folder, name)}")
    lines += [f"{name} was under way" for name in state.running]
    for name, cause in left_out(plan, state).items():
        lines.append(f"{name} did not run" + (f": it waits for {cause}" if cause else ""))
    if state.stopped:
        lines.append(f"stopped: {state.stopped}")
    missing = len(plan.cells) - len(finished) - len(before)
    lines.append(
        f"{len(finished)} of {len(plan.cells)} cells finished in {as_time(seconds)}, "
        f"{len(before)} were done before, {missing} missing; stages run: {len(state.ran)}"
    )
    if finished:
        lines.append(f"clones and DVC took {state.beside / len(finished):.1f} s a cell, beside the stages")
    return lines
