"""Rows in batches: none dropped, none twice, bounded, whatever the number of processes."""

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.prompts.batches import ANSWER_POSITIONS, PASS, batches, my_batches
from sapo.prompts.encoder import Encoded

untimed = settings(deadline=None)
row_lists = st.lists(st.tuples(st.integers(4, 300), st.integers(0, 200)), min_size=1, max_size=40).map(
    lambda sizes: [Encoded([1] * prompt, [2] * answer) for prompt, answer in sizes]
)


@untimed
@given(rows=row_lists, prefix=st.integers(0, 3), room=st.integers(0, 50), budget=st.integers(1, 3000))
def test_every_row_is_in_one_batch_and_batches_are_bounded(
    rows: list[Encoded], prefix: int, room: int, budget: int
) -> None:
    found = batches(rows, range(len(rows)), prefix, room, budget)
    assert sorted(index for batch in found for index in batch) == list(range(len(rows)))
    for batch in found:
        longest = max(len(rows[index].prompt) + len(rows[index].answer) for index in batch) - prefix + room
        answers = max(len(rows[index].answer) for index in batch)
        assert len(batch) == 1 or (
            len(batch) * longest <= budget and len(batch) * answers <= ANSWER_POSITIONS
        )


@untimed
@given(rows=row_lists, processes=st.integers(1, 5), budget=st.integers(1, 3000), lockstep=st.booleans())
def test_fault_09_the_processes_together_count_every_row_once(
    rows: list[Encoded], processes: int, budget: int, lockstep: bool
) -> None:
    counted: list[int] = []
    passes = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(processes))
        for rank in range(processes):
            patch.setenv("RANK", str(rank))
            mine = my_batches(rows, range(len(rows)), 0, 0, budget, lockstep)
            counted += [index for batch, counts in mine if counts for index in batch]
            passes.add(len(mine))
    assert sorted(counted) == list(range(len(rows)))
    assert len(passes) == 1 or not lockstep


@untimed
@given(
    lengths=st.lists(st.integers(4, 60), min_size=1, max_size=9),
    room=st.integers(0, 3),
    budget=st.integers(1, 400),
)
def test_no_other_cuts_cost_less(lengths: list[int], room: int, budget: int) -> None:
    rows = [Encoded([1] * length, []) for length in lengths]
    longest_first = sorted(lengths, reverse=True)

    def cost(
        sizes: list[tuple[int, int]],
    ) -> float:  # of batches, each its longest row and its number of rows
        return sum(PASS * budget * (1 + room) + count * (longest + room) for longest, count in sizes)

    possible = []
    for cuts in (cut for number in range(len(rows)) for cut in combinations(range(1, len(rows)), number)):
        edges = [0, *cuts, len(rows)]
        sizes = [(longest_first[a], b - a) for a, b in pairwise(edges)]
        if all(count == 1 or count * (longest + room) <= budget for longest, count in sizes):
            possible.append(cost(sizes))
    found = [
        (max(lengths[i] for i in batch), len(batch))
        for batch in batches(rows, range(len(rows)), 0, room, budget)
    ]
    assert cost(found) == pytest.approx(min(possible))
