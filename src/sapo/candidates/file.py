"""The user's own paraphrases: one YAML file, a list of texts under each task's name."""

from collections.abc import Sequence

from sapo.artifacts.task import Task
from sapo.candidates.checks import faults
from sapo.runtime.errors import DataError
from sapo.runtime.files import no_text, read_yaml


def from_file(task: Task, count: int, path: str) -> list[str]:
    """The first `count` paraphrases that the file lists for the task.

    Raises DataError for a missing or malformed file, too few paraphrases, or one that fails the checks.
    """
    try:
        content = read_yaml(path, missing="write it, or choose another paraphrase.source")
    except DataError as error:
        raise DataError(f"paraphrase.path cannot be read as YAML: {error}") from error
    listed = content.get(task.name) if isinstance(content, dict) else None
    for key in content if isinstance(content, dict) and listed is None else ():
        if not isinstance(key, str):
            raise DataError(f"paraphrase.path: {path}: the key {no_text(key)}")
    if not isinstance(listed, list):
        raise DataError(
            f"paraphrase.path: {path} has no list under {task.name!r}: write the task's paraphrases there"
        )
    if len(listed) < count:
        raise DataError(
            f"{path} lists {len(listed)} paraphrases of {task.name}, paraphrase.count asks for {count}"
        )
    return checked(listed[:count], task, f"{path}, {task.name}")


def checked(listed: Sequence[object], task: Task, where: str) -> list[str]:
    """The task's paraphrases as texts. Raises DataError that names `where` and the first that is none."""
    chosen: list[str] = []
    for number, candidate in enumerate(listed, start=1):
        if not isinstance(candidate, str | list | dict):
            raise DataError(f"{where}, paraphrase {number}: {no_text(candidate)}")
        if found := faults(candidate, task.instruction, task.labels, chosen):
            raise DataError(f"{where}, paraphrase {number}: {'; '.join(found)}")
        chosen.append(str(candidate).strip())
    return chosen
