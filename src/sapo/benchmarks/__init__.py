"""Where tasks come from. `embedded` are the ones inside two wheels of the Python package index."""

from pathlib import Path

EMBEDDED = Path(__file__).parent / "tasks"


def known_tasks() -> set[str]:
    """The names that a sequence may use."""
    return {path.stem for path in EMBEDDED.glob("*.yaml")}
