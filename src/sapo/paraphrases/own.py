"""The user's own paraphrases: one YAML file, a list of texts under each task's name."""

from pathlib import Path

import yaml

from sapo.files import DataError
from sapo.paraphrases.checks import faults
from sapo.tasks import Task


def from_file(task: Task, count: int, path: str) -> list[str]:
    """The first `count` paraphrases that the file lists for the task.

    Raises DataError for a missing or malformed file, too few paraphrases, or one that fails the checks.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"paraphrase.path: {path} cannot be read as YAML: {error}") from error
    listed = content.get(task.name) if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise DataError(f"paraphrase.path: {path} has no list under {task.name!r}")
    if len(listed) < count:
        raise DataError(f"{path} lists {len(listed)} paraphrases of {task.name}, paraphrase.count asks for {count}")
    chosen: list[str] = []
    for number, candidate in enumerate(listed[:count], start=1):
        if found := faults(candidate, task.instruction, task.labels, chosen):
            raise DataError(f"{path}, {task.name}, paraphrase {number}: {'; '.join(found)}")
        chosen.append(candidate.strip())
    return chosen
