"""The lock files hold nothing but pins, which agree, cover what the code imports, and fit every torch."""

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

from laboratory import REPOSITORY

LOCKS = ("requirements.txt", "requirements-remotes.txt", "requirements-grid.txt", "requirements-dev.txt")
PIN = re.compile(r"([\w.-]+)==([\w.+!]+)(?: ; .+)?")
OPTIONAL = {
    "vllm": "brings a torch of its own; src/ says that it is missing where it is asked for",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Version by name. Raises AssertionError for a line that is no pin or belongs to one build of torch."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        pin = PIN.fullmatch(line)
        assert pin, f"not name==version: {line}"
        name = normal(pin[1])
        assert not re.match(r"(nvidia|cuda|triton)\b", name), f"{line}: comes with a build of torch"
        assert "://" not in line, f"{line}: an address"
        assert name not in found, f"{line}: a second version"
        found[name] = pin[2]
    return found


def asked_for(path: Path) -> set[str]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return {normal(line) for line in lines if line and not line.startswith("-")}


def imported(paths: list[Path]) -> dict[str, str]:
    """Top-level modules that these files import anywhere, each with a file that does."""
    found: dict[str, str] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], path.relative_to(REPOSITORY).as_posix())
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_a_version_of_all_that_is_asked_for_and_nothing_else(lock: str) -> None:
    locked = pins((REPOSITORY / lock).read_text())
    assert asked_for((REPOSITORY / lock).with_suffix(".in")) - set(locked) == set()


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy>=2",
        "numpy==2.4.6 --hash=sha256:00",
        "--index-url https://packages.example.org",
        "numpy @ https://packages.example.org/numpy.whl",
        "# compiled on a machine",
        "nvidia-cublas==13.1.1.3 ; sys_platform == 'linux'",
        "nvidia_nccl_cu13==2.29.7",
        "triton==3.7.1",
        "cuda-bindings==13.5.0",
    ],
)
def test_other_lines_are_refused(line: str) -> None:
    with pytest.raises(AssertionError):
        pins(f"torch==2.13.0\n{line}\n")


def test_the_locks_agree() -> None:
    main, *others = [pins((REPOSITORY / lock).read_text()) for lock in LOCKS]
    for other in others:
        common = set(main) & set(other)
        assert {name: other[name] for name in common} == {name: main[name] for name in common}
    remotes, grid, dev = others
    assert (remotes | grid).items() <= dev.items()  # the tests use both


def test_what_the_code_imports_is_asked_for() -> None:
    folders = [REPOSITORY / "src", REPOSITORY / "tools"]
    own = {path.stem for folder in folders for path in folder.glob("*") if not path.name.startswith(".")}
    modules = imported([path for folder in folders for path in folder.rglob("*.py")])
    distributions = importlib.metadata.packages_distributions()
    asked = asked_for(REPOSITORY / "requirements.in") | asked_for(REPOSITORY / "requirements-grid.in")
    others = set(modules) - own - sys.stdlib_module_names - set(OPTIONAL)
    assert "torch" in others
    unasked = [name for name in others if not asked & set(map(normal, distributions.get(name, [name])))]
    assert {name: modules[name] for name in unasked} == {}
