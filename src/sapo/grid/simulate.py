"""How long the units of a plan take on so many slots, without running them."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from sapo.grid.plan import Unit, priorities


@dataclass(frozen=True)
class Schedule:
    """seconds: from the first start to the last end. busy: the sum over slots. idle: the share unused."""

    seconds: float
    busy: float
    slots: int

    @property
    def idle(self) -> float:
        return 1 - self.busy / (self.seconds * self.slots) if self.seconds else 0.0


def simulate(units: Mapping[str, Unit], seconds: Mapping[str, float], slots: int) -> Schedule:
    """Run the units as the driver does: on a free place, the ready one with the longest way to go.

    A need that is not among the units is done.
    """
    longest = priorities(units, seconds)
    waits = {name: sum(need in units for need in unit.needs) for name, unit in units.items()}
    followers: dict[str, list[str]] = {name: [] for name in units}
    for unit in units.values():
        for need in unit.needs:
            if need in units:
                followers[need].append(unit.name)
    order = {name: n for n, name in enumerate(units)}
    waiting = [(-longest[name], order[name], name) for name, count in waits.items() if not count]
    heapq.heapify(waiting)
    running: list[tuple[float, int, str]] = []
    now = 0.0
    while waiting or running:
        while waiting and len(running) < slots:
            name = heapq.heappop(waiting)[2]
            heapq.heappush(running, (now + seconds[name], order[name], name))
        now, _, ended = heapq.heappop(running)
        for name in followers[ended]:
            waits[name] -= 1
            if not waits[name]:
                heapq.heappush(waiting, (-longest[name], order[name], name))
    return Schedule(now, sum(seconds[name] for name in units), slots)
