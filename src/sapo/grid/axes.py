"""From `-S` options to cells: every combination of their values, its settings composed, and a name."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sapo.runtime.errors import DataError

MOST_OF_A_NAME = 100  # characters
STUDIES = "study"  # how names of cells of the study begin, and no others


@dataclass(frozen=True)
class Cell:
    """One point of the axes, which becomes one DVC experiment.

    overrides: as `dvc exp run -S` takes them, one value each. settings: what they compose params.yaml to.
    """

    name: str
    overrides: tuple[str, ...]
    settings: dict[str, Any]
    text: str  # params.yaml itself


def points(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Every combination of the overrides' values, as `dvc exp run --queue` makes them.

    Raises DataError for what is no override, and for a key that is given twice.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps, to_hydra_overrides
    from hydra.errors import HydraException

    try:
        parsed = to_hydra_overrides(list(overrides))
        keys = [override.get_key_element() for override in parsed]
        if repeated := next((key for key in keys if keys.count(key) > 1), None):
            raise DataError(f"-S {repeated} is given twice: write its values in one, -S {repeated}=A,B")
        found = get_hydra_sweeps({"params.yaml": list(overrides)})
    except (DvcException, HydraException) as error:
        raise DataError(f"-S {' '.join(overrides)}: {first_line(error)}") from None
    return list(dict.fromkeys(tuple(point["params.yaml"]) for point in found))


def names(combinations: Sequence[tuple[str, ...]], prefix: str = "") -> list[str]:
    """A short name of each: the values in which they differ, those of choices (method=...) without their key.

    Where they differ in none, as a single cell, it has those of choices, or all if there is no choice.
    Raises DataError where names are not unique, longer than MOST_OF_A_NAME, or no names for Git or a folder.
    """
    varied = [n for n in range(len(combinations[0])) if len({point[n] for point in combinations}) > 1]
    keys = [override.lstrip("+~").partition("=")[0] for override in combinations[0]]
    choices = [n for n, key in enumerate(keys) if (Path("conf") / key).is_dir()]
    made = []
    for point in combinations:
        parts = [prefix] if prefix else []
        for n in varied or choices or range(len(keys)):
            value = point[n].partition("=")[2]
            shown = value if n in choices else f"{keys[n].rpartition('.')[2]}{value}"
            parts.append(re.sub(r"[^\w.+]+", "_", shown).strip("._"))
        made.append("-".join(part for part in parts if part) or "grid")
    if len(set(made)) < len(made):
        twice = next(name for name in made if made.count(name) > 1)
        raise DataError(
            f"two cells would be called {twice}: write their values so that letters tell them apart"
        )
    if longest := next((name for name in made if len(name) > MOST_OF_A_NAME), None):
        raise DataError(
            f"{longest} is too long a name for an experiment: give --name, and fewer settings at once"
        )
    for name in made:
        if not re.fullmatch(r"\w[\w.+-]*", name) or ".." in name or name.endswith((".", ".lock")):
            raise DataError(
                f"{name!r} is no name for an experiment: give --name letters, digits, `-` and `_` alone"
            )
    return made


def cells(overrides: Sequence[str], prefix: str = "", study: bool = False) -> list[Cell]:
    """The cells of these `-S` options in the repository that is the working folder.

    Raises DataError where conf/ knows no such setting, or a stage could not use the composed settings.
    """
    if study:
        prefix = f"{STUDIES}-{prefix}" if prefix else STUDIES
    elif prefix.startswith(STUDIES):
        raise DataError(f"--name {prefix}: names that begin with {STUDIES!r} are for `tools/grid.py study`")
    combinations = points(overrides) or [()]
    made = []
    with composer() as compose:
        for name, point in zip(names(combinations, prefix), combinations, strict=True):
            text, settings = compose(point)
            check(text, f"cell {name}")
            made.append(Cell(name, point, settings, text))
    return made


def check(text: str, where: str) -> None:
    """Refuse (DataError) a params.yaml that no stage could use."""
    from sapo.config import load_params

    with TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        path.write_text(text, encoding="utf-8")
        try:
            load_params(path, launched=True)
        except DataError as error:
            raise DataError(str(error).replace(str(path), where)) from None


@contextmanager
def composer() -> Iterator[Any]:
    """A function from overrides to the text of params.yaml and what it says, as `dvc exp run` composes it."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    def composed(point: Sequence[str]) -> tuple[str, dict[str, Any]]:
        try:
            content = compose(config_name="config", overrides=list(point))
            OmegaConf.resolve(content)
        except (HydraException, OmegaConfBaseException) as error:
            raise DataError(f"-S {' '.join(point)}: {first_line(error)}") from None
        settings: Any = OmegaConf.to_container(content)
        return OmegaConf.to_yaml(content), settings

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(Path("conf").resolve()), version_base=None):
        yield composed


def first_line(error: Exception) -> str:
    """What Hydra says in one line: the fault and the choices, not where it has looked."""
    told = str(error).partition("Config search path")[0].partition("See https:")[0]
    return " ".join(line.strip() for line in told.splitlines() if line.strip()).rstrip(" ;.")
