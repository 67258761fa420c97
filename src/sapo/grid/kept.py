"""Outputs that DVC's run-cache does not bring back, kept once for all cells, with what dvc.lock says of them.

Rows of data sets and the base model are in no cache (`cache: false`): DVC would make them anew in each clone.
Each is kept in a folder named by its stage's key, and linked into the clones that need it: a stage replaces
its outputs, and never writes into them. What Git tracks is copied, since Git may write into it.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sapo.grid.pipeline import Stage, lock_of
from sapo.runtime.files import parse_yaml, read_json
from sapo.runtime.outputs import output_folder, write_json

LOCKED, OUTPUTS = "locked.json", "outputs"


class Kept:
    """The folder with all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entry(self, stage: Stage) -> dict[str, Any] | None:
        """What dvc.lock says of the stage, where its outputs are kept."""
        path = self.folder / stage.key / LOCKED
        return read_json(path) if path.is_file() else None

    def output(self, stage: Stage, path: str) -> Path:
        return self.folder / stage.key / OUTPUTS / path

    def put(self, clone: Path, stages: Iterable[Stage], own: bool = True) -> None:
        """Keep the outputs of these stages, which a clone has finished. own: nobody else writes there."""
        for stage in stages:
            entry = lock_entry(clone, stage)
            if stage.restored or entry is None or self.entry(stage) is not None:
                continue
            with output_folder(self.folder / stage.key) as folder:
                for path in stage.outs:
                    link(clone / path, folder / OUTPUTS / path, link_file if own else shutil.copy2)
                write_json(folder / LOCKED, entry)

    def place(self, clone: Path, stages: Iterable[Stage]) -> None:
        """Put the kept outputs of these stages, and what dvc.lock says of them, into a clone."""
        found = [(stage, entry) for stage in stages if (entry := self.entry(stage))]
        for stage, _ in found:
            for path in stage.outs:
                remove(clone / path)
                one = shutil.copy2 if tracked(clone, path) else link_file
                link(self.output(stage, path), clone / path, one)
        for file in {stage.file for stage, _ in found}:
            lock = lock_of(clone, file)
            content = read_lock(lock)
            content["stages"] |= {stage.name: entry for stage, entry in found if stage.file == file}
            write_lock(lock, content)


def forget_missing(clone: Path, file: str, names: Iterable[str], cache: Path | None) -> None:
    """Take these stages from the clone's dvc.lock where the cache lacks their outputs, or there is no cache.

    DVC looks for no other result of a stage that dvc.lock has: each clone would run it anew, although an
    earlier unit has put its result into the run-cache.
    """
    lock = lock_of(clone, file)
    if not lock.is_file():
        return
    content = read_lock(lock)
    content["stages"] = {
        name: entry
        for name, entry in content["stages"].items()
        if name not in names
        or (cache and all(cached(cache, out.get("md5", "")) for out in entry.get("outs", [])))
    }
    write_lock(lock, content)


def cached(cache: Path, md5: str) -> bool:
    """Whether the cache has the file, or the list of a folder and all files in it."""
    path = cache / "files/md5" / md5[:2] / md5[2:]
    if not path.is_file() or not md5.endswith(".dir"):
        return path.is_file()
    return all(cached(cache, file["md5"]) for file in read_json(path))


def tracked(clone: Path, path: str) -> bool:
    """Whether Git has this path of the clone, or something below it."""
    command = ["git", "-C", str(clone), "ls-files", "--", path]
    return bool(subprocess.run(command, capture_output=True).stdout)


def lock_entry(clone: Path, stage: Stage) -> dict[str, Any] | None:
    """What the clone's dvc.lock says of the stage."""
    entry: dict[str, Any] | None = read_lock(lock_of(clone, stage.file))["stages"].get(stage.name)
    return entry


def read_lock(path: Path) -> dict[str, Any]:
    content = parse_yaml(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None
    return {"schema": "2.0", "stages": {}} | (content or {})


def write_lock(path: Path, content: dict[str, Any]) -> None:
    from dvc.utils.serialize import dump_yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    dump_yaml(str(path), content)


def link_file(source: str, target: str) -> None:
    """The file under another name too; a copy on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def link(source: Path, target: Path, one: Callable[[str, str], object] = link_file) -> None:
    """The file or folder under another name too, file by file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=one, dirs_exist_ok=True)
    else:
        one(str(source), str(target))


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
