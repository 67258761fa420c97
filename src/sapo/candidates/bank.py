"""The repository's own paraphrases: texts/TASK.yaml, written for this project, with their provenance."""

import hashlib
from pathlib import Path

from sapo.artifacts.task import Task
from sapo.candidates.checks import faults
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_yaml

BANK = Path(__file__).parent / "texts"


def from_bank(task: Task, count: int, folder: str | Path = BANK) -> list[str]:
    """The first `count` paraphrases of the task's instruction that the bank in `folder` holds.

    Its `instruction_sha256` is of the instruction without outer white space.

    Raises DataError when there is no bank for the task, it was written for another wording, it is too short,
    or an entry fails the checks.
    """
    path = Path(folder) / f"{task.name}.yaml"
    bank = read_yaml(
        path,
        missing="give your own paraphrases (paraphrase.source=file), "
        "ask a language model (paraphrase.source=api), or choose a method without them (method=lora_inc)",
    )
    if (
        not isinstance(bank, dict)
        or "instruction_sha256" not in bank
        or not isinstance(bank.get("paraphrases"), list)
    ):
        raise DataError(
            f"{path} is not a bank, a mapping with `instruction_sha256` and a list of `paraphrases`"
        )
    texts, written_for = bank["paraphrases"], bank["instruction_sha256"]
    if written_for != hashlib.sha256(task.instruction.strip().encode()).hexdigest():
        raise DataError(
            f"{path} was written for another wording of {task.name}'s instruction: "
            "adapt its paraphrases, then its hash"
        )
    if len(texts) < count:
        raise DataError(f"{path} holds {len(texts)} paraphrases, paraphrase.count asks for {count}")
    chosen: list[str] = []
    for number, candidate in enumerate(texts[:count], start=1):
        found = faults(candidate, task.instruction, task.labels, chosen)
        if found:
            raise DataError(f"{path}, paraphrase {number}: {'; '.join(found)}")
        chosen.append(candidate)
    return chosen
