"""The names that each source of tasks knows."""

from pathlib import Path

from sapo.data.catalog import task_folders

EMBEDDED = Path(__file__).parent / "tasks"


def known_tasks(source: str) -> set[str]:
    """The names that a sequence of this source may use; empty for `folder`, which is read later."""
    if source == "embedded":
        return {path.stem for path in EMBEDDED.glob("*.yaml")}
    return set(task_folders()) if source == "catalog" else set()
