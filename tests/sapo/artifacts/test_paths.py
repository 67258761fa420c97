"""Where the artifacts lie: in outputs of dvc.yaml, and known to the modules of sapo.artifacts alone."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import pytest
import yaml

import sapo.artifacts
from laboratory import REPOSITORY
from sapo.artifacts.lineage import LINEAGE, WEIGHTS
from sapo.artifacts.predictions import predictions_folder
from sapo.settings.study import Pair

MODULES = [import_module(f"sapo.artifacts.{found.name}") for found in iter_modules(sapo.artifacts.__path__)]
TASK = "TASK"
PAIR = Pair(task=TASK, after="BEFORE")
# What only sapo.artifacts spells
SPELLED = ("data/paraphrases", "data/predictions", "data/prompts", "data/tasks", "metrics/cl.json")
SPELLED += (
    "metrics/provenance",
    "metrics/rows",
    "metrics/scores",
    "base.json",
    "task.json",
    LINEAGE,
    WEIGHTS,
)


def outs() -> set[str]:
    """The outputs of all stages of both pipelines, those of a task as TASK's, of a pair as PAIR's."""
    text = (REPOSITORY / "dvc.yaml").read_text(encoding="utf-8").replace("${key}", TASK)
    study = (REPOSITORY / "study/dvc.yaml").read_text(encoding="utf-8")
    for name, value in {"task": PAIR.task, "after": PAIR.after}.items():
        study = study.replace(f"${{item.pair.{name}}}", value)
    study = study.replace("${item.seed}", "1")
    stages = yaml.safe_load(text)["stages"] | yaml.safe_load(study)["stages"]
    found = set()
    for stage in stages.values():
        do = stage.get("do", stage)
        for entry in (*do["outs"], *do.get("metrics", ()), *do.get("plots", ())):
            found |= set(entry) if isinstance(entry, dict) else {entry}
    return found


OUTS = outs()


def given(module: ModuleType) -> Iterator[tuple[str, Path]]:
    """The paths that a module gives: its constants, and what its functions return for the task TASK."""
    for name, value in vars(module).items():
        if isinstance(value, Path):
            yield name, value
        elif inspect.isfunction(value) and value.__module__ == module.__name__:
            signature = inspect.signature(value)
            if signature.return_annotation is Path:
                kinds = {"task": TASK, "stage": TASK, "split": "train", "pair": PAIR, "seed": 1}
                yield name, value(**{parameter: kinds[parameter] for parameter in signature.parameters})


PATHS = {f"{module.__name__}.{name}": path for module in MODULES for name, path in given(module)}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_of_an_artifact_is_an_output_lies_in_one_or_holds_some(name: str) -> None:
    path = PATHS[name]
    inside = {str(path), *map(str, path.parents)} & OUTS
    assert inside or any(Path(out).is_relative_to(path) for out in OUTS), path


@pytest.mark.parametrize("out", sorted(out for out in OUTS if not out.startswith("plots/")))
def test_an_output_is_a_path_of_an_artifact_or_lies_in_one(out: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with predictions_folder(TASK):
            pass
        [predictions] = Path("data").glob("*/*")
    stage = (
        Path(out.replace("base", TASK)) if out.startswith(("metrics/", "data/predictions/")) else Path(out)
    )
    assert any(stage.is_relative_to(path) for path in (*PATHS.values(), predictions)), out


def spelled(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each string in a module that is not a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def sources() -> list[Path]:
    found = [*REPOSITORY.glob("src/**/*.py"), *REPOSITORY.glob("tools/**/*.py")]
    return [path for path in found if path.parent != REPOSITORY / "src/sapo/artifacts"]


def test_no_other_module_spells_the_path_or_the_name_of_an_artifact() -> None:
    assert len(sources()) > 50
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}: {name}"
        for path in sources()
        for line, text in spelled(path)
        for name in SPELLED
        if re.search(rf"(?<![\w/]){re.escape(name)}", text)  # src/sapo/data/tasks is another
    ]
    assert not found, "\n".join(found)


def test_the_artifacts_themselves_do_spell_them() -> None:
    """The test above would pass for names that nothing has."""
    texts = {text for module in MODULES for _, text in spelled(Path(str(module.__file__)))}
    assert not [name for name in SPELLED if not any(name in text for text in texts)]
