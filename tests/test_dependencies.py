"""A stage's dependencies are the modules that its script imports, however deep: no more, and none missing."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parent.parent
SOURCE = REPOSITORY / "src"
# What no result depends on, and why
EXEMPT = {
    "sapo/config.py": "the settings that decide a result stand under `params`",
    "sapo/settings": "its sections, likewise",
    "sapo/runtime": "reads, writes, waits and reports; what is computed is the same without it",
}


def module_file(name: str) -> Path | None:
    """The file of a module of ours, by its dotted name."""
    path = SOURCE / name.replace(".", "/")
    found = [path / "__init__.py", path.with_suffix(".py")]
    return next((one for one in found if one.is_file()), None)


def imports(path: Path) -> Iterator[Path]:
    """Our own modules that a file imports, also within functions, but not for types alone."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        todo += ast.iter_child_nodes(node)
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [
                f"{node.module}.{one.name}" if module_file(f"{node.module}.{one.name}") else node.module
                for one in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [one.name for one in node.names]
        yield from (file for name in names if (file := module_file(name)))


def exempt(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}/") for name in EXEMPT)


def needed(script: str) -> set[str]:
    """The modules below src/ that decide what a script computes, itself among them."""
    found: set[str] = set()
    todo = [SOURCE / script]
    while todo:
        path = todo.pop()
        module = path.relative_to(SOURCE).as_posix()
        if module in found or exempt(module):
            continue
        found.add(module)
        todo += imports(path)
    return {module for module in found if not module.endswith("__init__.py")}  # these hold a docstring alone


def stages() -> dict[str, dict[str, Any]]:
    """Of both pipelines; those of the study say that their paths are from the repository's top folder."""
    found: dict[str, dict[str, Any]] = {}
    for path in ("dvc.yaml", "study/dvc.yaml"):
        content = yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))["stages"]
        found |= {name: stage.get("do", stage) for name, stage in content.items()}
    return found


def script_of(stage: dict[str, Any]) -> str:
    [script] = [word for word in stage["cmd"].split() if word.startswith("src/")]
    return script.removeprefix("src/")


def listed(stage: dict[str, Any]) -> set[str]:
    """The modules that a stage's `deps` name, each file of a folder on its own."""
    paths = [REPOSITORY / dep for dep in stage["deps"] if dep.startswith("src/")]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))]
    return {f.relative_to(SOURCE).as_posix() for f in files if f.name != "__init__.py"}


def missing(stage: dict[str, Any]) -> set[str]:
    return needed(script_of(stage)) - listed(stage)


@pytest.mark.parametrize("name", stages())
def test_a_stage_depends_on_all_modules_that_decide_its_result(name: str) -> None:
    assert missing(stages()[name]) == set()


@pytest.mark.parametrize("name", stages())
def test_a_stage_depends_on_no_module_that_it_does_not_import(name: str) -> None:
    stage = stages()[name]
    assert listed(stage) - needed(script_of(stage)) == set()


@pytest.mark.parametrize("name", stages())
def test_every_dependency_that_is_taken_away_is_missed(name: str) -> None:
    stage = stages()[name]
    for dep in stage["deps"]:
        if dep.startswith("src/"):
            assert missing(stage | {"deps": [one for one in stage["deps"] if one != dep]}), dep


def test_packages_hold_a_docstring_alone() -> None:
    for path in SOURCE.rglob("__init__.py"):
        assert len(ast.parse(path.read_text(encoding="utf-8")).body) == 1, path


def test_importing_the_library_starts_nothing() -> None:
    """Threads, processes and changes of the environment belong to a stage's command line."""
    for path in SOURCE.rglob("sapo/**/*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            assert not called or path.name == "figures.py", f"{path}: {ast.unparse(node)}"


def test_every_stage_says_what_it_does() -> None:
    assert all(stage["desc"] for stage in stages().values())


def test_bytecode_beside_a_module_is_no_part_of_a_dependency() -> None:
    assert "__pycache__/" in (REPOSITORY / ".dvcignore").read_text(encoding="utf-8").splitlines()


def test_no_stage_depends_on_where_its_curves_are_shown() -> None:
    for name, stage in stages().items():
        assert not [one for one in stage.get("params", []) if one.partition(".")[0] == "tracking"], name


@pytest.mark.parametrize("name", ["study_losses", "study_train"])
def test_a_study_s_stage_knows_the_settings_that_it_reads(name: str) -> None:
    """Those of its own section that decide a training, and all that `train` and `evaluate` know."""
    every = stages()
    known = set(every[name]["params"])
    assert known >= {
        "study.wordings",
        "study.train_rows",
        "study.epochs",
        "study.test_rows",
        "study.other_rows",
    }
    needed_by_run = {*every["train"]["params"], *every["evaluate"]["params"]} - {"method.name"}
    assert known >= needed_by_run
    assert not {"study", "study.seeds", "study.pairs"} & known  # these name stages, and decide none of them
