"""The user's repository: what runs is a commit, and finished cells become DVC experiments of it."""

import os
import subprocess
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sapo.grid.axes import Cell
from sapo.grid.pipeline import Stage, git, lock_of
from sapo.runtime.errors import DataError
from sapo.runtime.files import parse_yaml

# What decides results, beside the settings
DECIDES = ("src", "conf", "dvc.yaml", "study/dvc.yaml", "requirements.txt", ".dvc/config", ".dvc/plots")
# What a run itself changes, and no cell depends on
WRITTEN = (
    *("params.yaml", "dvc.lock", "metrics", "plots", "results"),
    *("study/dvc.lock", "study/report.md", "study/rows", "study/predictors", "study/wordings"),
)


@dataclass(frozen=True)
class Origin:
    """head: the commit that experiments belong to. tree: the same with the user's uncommitted changes."""

    head: str
    tree: str

    @property
    def dirty(self) -> bool:
        return self.head != self.tree


def origin(allow_dirty: bool) -> Origin:
    """What is to run. Raises DataError that names uncommitted changes, unless they are allowed."""
    try:
        head = git("rev-parse", "HEAD")
    except DataError as error:
        raise DataError(f"no commit to run: {error}") from None
    listed = git("status", "--porcelain", "-z", "--untracked-files=all").split("\0")
    entries = [(entry[:2], entry[3:]) for entry in listed if entry[2:3] == " "]
    new = [
        name for code, name in entries if code == "??" and name.startswith(tuple(f"{d}/" for d in DECIDES))
    ]
    if new:
        raise DataError(f"Git does not know {few(new)}: a clone would lack them; `git add` and commit them")
    changed = [name for code, name in entries if code != "??" and not written(name)]
    if not changed:
        return Origin(head, head)
    if not allow_dirty:
        raise DataError(f"uncommitted changes in {few(changed)}: commit them, or give --allow-dirty")
    return Origin(head, git("stash", "create") or head)


def written(name: str) -> bool:
    return any(name == own or name.startswith(f"{own}/") for own in WRITTEN)


def few(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def ref_of(head: str, name: str) -> str:
    """Where DVC keeps an experiment of this name that belongs to this commit."""
    return f"refs/exps/{head[:2]}/{head[2:]}/{name}"


def done_before(cells: Sequence[Cell], origin: Origin) -> set[str]:
    """The names of the cells whose experiments are there, of these settings and this code.

    Raises DataError for an experiment that has a cell's name, and is of something else.
    """
    prefix = ref_of(origin.head, "")
    there = set(git("for-each-ref", "--format=%(refname)", prefix).split())
    found = {cell.name for cell in cells if f"{prefix}{cell.name}" in there}
    for cell in cells:
        if cell.name in found and (why := differs(cell, origin)):
            raise DataError(
                f"an experiment {cell.name} is there already, with other {why}: give --name for other names, "
                f"or `dvc exp remove {cell.name}`"
            )
    return found


def differs(cell: Cell, origin: Origin) -> str:
    """ "settings" or "code" where the experiment of the cell's name is of others; else empty."""
    ref = ref_of(origin.head, cell.name)
    settings: Any = parse_yaml(git("show", f"{ref}:params.yaml"), f"{cell.name}: params.yaml")
    if settings != cell.settings:
        return "settings"
    same = subprocess.run(["git", "diff", "--quiet", ref, origin.tree, "--", *DECIDES])
    return "code" if same.returncode else ""


def check_sources(
    name: str, origin: Origin, stages: Collection[Stage], hash_of: Callable[[str], str | None]
) -> None:
    """Refuse (DataError) a finished experiment that read other files than are there now, beside the code."""
    outside = {path for stage in stages for path, maker in stage.deps if not maker and not decides(path)}
    if not outside:
        return
    ref = ref_of(origin.head, name)
    for file in sorted({stage.file for stage in stages}):
        locked: Any = parse_yaml(git("show", f"{ref}:{lock_of(Path(), file)}"), f"{name}: dvc.lock")
        entries = [locked["stages"].get(stage.name, {}) for stage in stages if stage.file == file]
        for dep in (dep for entry in entries for dep in entry.get("deps", [])):
            path = os.path.normpath(dep["path"])
            if path in outside and dep.get("md5") != hash_of(path):
                raise DataError(
                    f"the experiment {name} was made of another {path}: give --name for other names, "
                    f"or `dvc exp remove {name}`"
                )


def decides(path: str) -> bool:
    return any(path == own or path.startswith(f"{own}/") for own in DECIDES)


def fetch(clone: Path, head: str, name: str) -> None:
    """Fetch the experiment that a clone has finished; its files are in the shared cache already.

    Raises DataError where another of that name has appeared since the grid began: it is not overwritten.
    """
    ref = ref_of(head, name)
    git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(clone), ref)
    made = git("-C", str(clone), "rev-parse", ref)
    try:
        git("update-ref", ref, made, "0" * len(made))  # only where there is none
    except DataError:
        raise DataError(
            f"an experiment {name} has been made meanwhile: rename or remove it (`dvc exp remove {name}`), "
            "and give the same command again"
        ) from None
