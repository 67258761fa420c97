"""Rows in batches: of similar length, bounded in tokens, dealt out to the processes."""

from collections.abc import Sequence

from sapo.prompts.encoder import Encoded
from sapo.runtime.processes import process_count, process_index

# Of one batch: bounds the logits, positions x vocabulary, whatever the prompts' length
ANSWER_POSITIONS = 1024
# What a pass of its own costs beside its tokens, in budgets: small products are far below full speed
PASS = 1 / 16


def batches(
    rows: Sequence[Encoded], indices: Sequence[int], prefix: int, room: int, budget: int
) -> list[list[int]]:
    """`indices` of rows in batches of at most `budget` tokens (at least one row), longest rows first.

    A batch is as many tokens as its padded rows: their longest, without the first `prefix` tokens and with
    `room` for tokens to come, times their number. The cuts are those of the least cost: all batches' tokens,
    and PASS for each pass, one a batch and one more for each token to come.
    """
    order = sorted(indices, key=lambda i: len(rows[i].prompt) + len(rows[i].answer), reverse=True)
    lengths = [len(rows[i].prompt) + len(rows[i].answer) - prefix + room for i in order]
    passes = PASS * budget * (1 + room)
    cost, starts = [0.0], [0]  # of the first n rows: the least cost, and where the last batch begins
    for end in range(1, len(order) + 1):
        least, start, answers = float("inf"), end - 1, 0
        for begin in range(end - 1, -1, -1):
            answers = max(answers, len(rows[order[begin]].answer))
            count, tokens = end - begin, (end - begin) * lengths[begin]
            if count > 1 and (tokens > budget or count * answers > ANSWER_POSITIONS):
                break
            if cost[begin] + passes + tokens < least:
                least, start = cost[begin] + passes + tokens, begin
        cost.append(least)
        starts.append(start)
    found: list[list[int]] = []
    end = len(order)
    while end:
        found.append(order[starts[end] : end])
        end = starts[end]
    return found[::-1]


def my_batches(
    rows: Sequence[Encoded], indices: Sequence[int], prefix: int, room: int, budget: int, lockstep: bool
) -> list[tuple[list[int], bool]]:
    """The batches of this process, and whether each counts. No row is dropped or counted by two processes.

    With `lockstep` every process gets the same number of batches, the missing ones repeated from elsewhere
    and not counted.
    """
    by_length = sorted(indices, key=lambda i: len(rows[i].prompt) + len(rows[i].answer), reverse=True)
    count = process_count()
    dealt = [batches(rows, by_length[process::count], prefix, room, budget) for process in range(count)]
    mine = [(batch, True) for batch in dealt[process_index()]]
    if lockstep:
        most = max(dealt, key=len)
        mine += [(batch[:1], False) for batch in most[len(mine) :]]
    return mine
