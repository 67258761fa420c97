"""Rows in pieces: of similar length, bounded in tokens, dealt out to the processes."""

from collections.abc import Sequence

from sapo import parallel
from sapo.prompts import Encoded

ANSWER_POSITIONS = 1024  # of one piece: bounds the logits, positions x vocabulary, whatever the prompts' length


def pieces(rows: Sequence[Encoded], indices: Sequence[int], prefix: int, room: int, budget: int) -> list[list[int]]:
    """`indices` of rows in pieces of at most `budget` tokens (at least one row), longest rows first.

    A piece is as many tokens as its padded rows: their longest, without the first `prefix` tokens and with `room` for
    tokens to come, times their number.
    """
    found: list[list[int]] = []
    longest, answers = 0, 0
    for index in sorted(indices, key=lambda i: len(rows[i].prompt) + len(rows[i].answer), reverse=True):
        longest = longest or len(rows[index].prompt) + len(rows[index].answer) - prefix + room
        answers = max(answers, len(rows[index].answer))
        count = len(found[-1]) + 1 if found else 1
        if not found or count * longest > budget or count * answers > ANSWER_POSITIONS:
            found.append([])
            longest = len(rows[index].prompt) + len(rows[index].answer) - prefix + room
            answers = len(rows[index].answer)
        found[-1].append(index)
    return found


def my_pieces(
    rows: Sequence[Encoded], indices: Sequence[int], prefix: int, room: int, budget: int, lockstep: bool
) -> list[tuple[list[int], bool]]:
    """The pieces of this process, and whether each counts. No row is dropped or counted by two processes.

    With `lockstep` every process gets the same number of pieces, the missing ones repeated from elsewhere and not counted.
    """
    by_length = sorted(indices, key=lambda i: len(rows[i].prompt) + len(rows[i].answer), reverse=True)
    dealt = [pieces(rows, by_length[rank :: parallel.world()], prefix, room, budget) for rank in range(parallel.world())]
    mine = [(piece, True) for piece in dealt[parallel.rank()]]
    if lockstep:
        most = max(dealt, key=len)
        mine += [(piece[:1], False) for piece in most[len(mine) :]]
    return mine
