"""The stages of a cell: dvc.yaml resolved for its settings, each with a key of what decides its result.

Two cells whose stages have the same key need the stage run once. The key is known before anything runs: it
holds the command, the sources, the settings that the stage lists, and the keys of the stages that make the
rest of its dependencies. Where the content of such a dependency is known it stands for them: sequences that
begin with the same task have the same rows of it, though another stage has made them.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from sapo.grid.axes import Cell
from sapo.runtime.errors import DataError
from sapo.runtime.files import parse_yaml, read_text, sha256_json

EXPERIMENT, STUDY = "dvc.yaml", "study/dvc.yaml"
USED = re.compile(r"\$\{([\w.]+)")  # the settings that decide which stages there are, and their commands


@dataclass(frozen=True)
class Stage:
    """A stage for the settings of a cell. Paths are relative to the repository's top folder.

    target: what `dvc repro` calls it. deps: each with the key of its maker, None for a source. params: value
    by name. outs: whether DVC's cache keeps it, by path. restored: whether the run-cache knows the stage: not
    where an output that is no metric or plot is kept out of the cache.
    """

    key: str
    target: str
    file: str
    cmd: str
    deps: tuple[tuple[str, str | None], ...]
    params: Mapping[str, Any]
    outs: Mapping[str, bool]
    restored: bool

    @property
    def name(self) -> str:
        return self.target.rpartition(":")[2]

    @property
    def needs(self) -> list[str]:
        """The keys of the stages that make its dependencies."""
        return list(dict.fromkeys(key for _, key in self.deps if key))


def unknown(path: str, makers: Sequence[Stage]) -> str | None:
    """The content of what has not been made."""


class Sources:
    """What the files of the repository are at a commit, and what others outside Git look like."""

    def __init__(self, commit: str) -> None:
        listed = git("ls-tree", "-r", "-z", commit)
        entries = (entry.partition("\t") for entry in listed.split("\0") if entry)
        self.blobs = {path: about.split()[2] for about, _, path in entries}
        self.known: dict[str, str] = {}
        self.definitions: dict[str, tuple[Any, list[str]]] = {}
        self.resolved: dict[str, list[dict[str, Any]]] = {}

    def drafts(self, cell: Cell, file: str) -> list[dict[str, Any]]:
        """The stages that this dvc.yaml has for the cell; resolved once for cells that share them."""
        if file not in self.definitions:
            text = read_text(file)
            self.definitions[file] = parse_yaml(text, file), USED.findall(text)
        definition, names = self.definitions[file]
        used = {name for name in names if has(cell.settings, name)}
        key = sha256_json([file, {name: value_of(cell.settings, name) for name in used}])
        if key not in self.resolved:
            self.resolved[key] = resolved(cell.text, file, definition)
        return self.resolved[key]

    def id(self, path: str) -> str:
        """The same for the same content. Raises DataError where a clone would not have it."""
        if path not in self.known:
            self.known[path] = self._id(path)
        return self.known[path]

    def _id(self, path: str) -> str:
        if path in self.blobs:
            return self.blobs[path]
        if inside := {name: blob for name, blob in self.blobs.items() if name.startswith(f"{path}/")}:
            return sha256_json(inside)
        place = Path(path)
        if not place.exists():
            raise DataError(f"{path} is missing: the settings name it")
        if not place.is_absolute():
            raise DataError(
                f"Git does not know {path}, and a clone would lack it: commit it, or give its whole path"
            )
        files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
        return sha256_json([[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files])


def stages(
    cell: Cell,
    sources: Sources,
    files: Sequence[str] = (EXPERIMENT,),
    content: Callable[[str, Sequence[Stage]], str | None] = unknown,
) -> dict[str, Stage]:
    """The cell's stages by key, each after those that it needs.

    content: of a path that these stages make, where it is known already.
    """
    drafts = [draft for file in files for draft in sources.drafts(cell, file)]
    made: dict[str, Stage] = {}
    by_target: dict[str, Stage] = {}
    makers = [(out, draft["target"]) for draft in drafts for out in draft["outs"]]
    of = {draft["target"]: draft for draft in drafts}

    def build(target: str, above: tuple[str, ...] = ()) -> Stage:
        if target in by_target:
            return by_target[target]
        if target in above:
            raise DataError(f"dvc.yaml: stage {target} needs itself, by way of {', '.join(above)}")
        draft = of[target]
        deps: list[tuple[str, str | None]] = []
        decided = []
        for path in sorted(draft["deps"]):
            by = dict.fromkeys(maker for out, maker in makers if overlap(out, path) and maker != target)
            built = [build(maker, (*above, target)) for maker in by]
            deps += [(path, maker.key) for maker in built] or [(path, None)]
            known = content(path, built) if built else sources.id(path)
            decided.append([path, known or sorted(maker.key for maker in built)])
        params = {name: value_of(cell.settings, name) for name in draft["params"]}
        key = sha256_json(
            [
                draft["cmd"],
                decided,
                params,
                sorted(draft["outs"]),
            ]
        )
        stage = Stage(
            key, target, draft["file"], draft["cmd"], tuple(deps), params, draft["outs"], draft["restored"]
        )
        by_target[target] = made[key] = stage
        return stage

    for draft in drafts:
        build(draft["target"])
    return made


def overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def value_of(settings: Mapping[str, Any], name: str) -> Any:
    """The setting of this dotted name. Raises DataError where there is none."""
    value: Any = settings
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise DataError(f"dvc.yaml: a stage depends on the setting {name}, which params.yaml lacks")
        value = value[part]
    return value


def has(settings: Mapping[str, Any], name: str) -> bool:
    try:
        value_of(settings, name)
    except DataError:
        return False
    return True


def resolved(params: str, file: str, definition: Any) -> list[dict[str, Any]]:
    """The stages that a dvc.yaml of this definition has for a params.yaml of this text."""
    from dvc.exceptions import DvcException
    from dvc.fs import LocalFileSystem
    from dvc.parsing import DataResolver

    with TemporaryDirectory() as name:
        folder = Path(name, "repository")
        (folder / file).parent.mkdir(parents=True)
        (folder / "params.yaml").write_text(params, encoding="utf-8")
        repository: Any = SimpleNamespace(fs=LocalFileSystem(), config={})
        try:
            found = DataResolver(repository, str((folder / file).parent), definition).resolve()["stages"]
        except DvcException as error:
            raise DataError(f"{file}: {error}") from None
    prefix = "" if file == EXPERIMENT else f"{file}:"
    return [draft(f"{prefix}{name}", file, content) for name, content in found.items()]


def draft(target: str, file: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """What DVC resolved, with paths from the top folder."""
    folder = os.path.normpath(PurePosixPath(file).parent / content.get("wdir", "."))

    def paths(name: str) -> dict[str, dict[str, Any]]:
        entries = (entry if isinstance(entry, dict) else {entry: {}} for entry in content.get(name) or [])
        return {
            os.path.normpath(os.path.join(folder, path)): options or {}
            for entry in entries
            for path, options in entry.items()
        }

    outs = {name: paths(name) for name in ("outs", "metrics", "plots")}
    return {
        "target": target,
        "file": file,
        "cmd": content["cmd"],
        "deps": list(paths("deps")),
        "params": list(content.get("params") or []),
        "outs": {path: of.get("cache", True) for found in outs.values() for path, of in found.items()},
        "restored": all(of.get("cache", True) for of in outs["outs"].values()),
    }


def closure(keys: Iterable[str], stages: Mapping[str, Stage]) -> list[str]:
    """These stages and all that they need, in the order of `stages`."""
    wanted, waiting = set[str](), list(keys)
    while waiting:
        key = waiting.pop()
        if key not in wanted:
            wanted.add(key)
            waiting += stages[key].needs
    return [key for key in stages if key in wanted]


def lock_of(folder: Path, file: str) -> Path:
    """The dvc.lock of this dvc.yaml, where the repository or a clone of it is in that folder."""
    return (folder / file).with_suffix(".lock")


def git(*arguments: str) -> str:
    """What Git prints. Raises DataError where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")
