"""The rows of one task's training: its own, and those of earlier tasks that it reads again."""

from collections.abc import Sequence

from sapo.artifacts.lineage import Learned
from sapo.artifacts.run_record import EarlierRows, PromptText
from sapo.artifacts.task import Example, Task, load_task, split_path
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.runtime.errors import OtherRunError
from sapo.runtime.files import sha256_file, sha256_json


def training_rows(
    encoder: PromptEncoder,
    task: Task,
    prompt: PromptText,
    learned: Sequence[Learned],
    earlier: Sequence[EarlierRows],
    seed: int,
) -> list[Encoded]:
    """The task's own rows, then those of earlier tasks in their order, each under its task's prompt.

    learned: the earlier tasks. seed: draws which of their rows; all later trainings draw the same ones.
    Raises OtherRunError where a file of rows is not the one that was trained on before.
    """
    asked = {entry.task: entry.prompt for entry in learned}
    shares = [(prompt, task.train), *((asked[one.task], drawn(one, seed)) for one in earlier)]
    return [
        row
        for under, examples in shares
        for row in encoder.encode(under.instruction, under.suffix, under.language, examples, answers=True)
    ]


def drawn(earlier: EarlierRows, seed: int) -> list[Example]:
    """So many rows of an earlier task, in the order of its file; more rows are the same ones and others."""
    rows = load_task(earlier.task).train
    path = split_path(earlier.task, "train")
    if sha256_file(path) != earlier.train:
        raise OtherRunError(f"{path} is not the file that the model before was trained on")
    order = sorted(range(len(rows)), key=lambda number: sha256_json([seed, earlier.task, number]))
    return [rows[number] for number in sorted(order[: earlier.rows])]
