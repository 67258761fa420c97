"""A clone of the repository for a unit of work: a fresh one every time, but for what a training has saved."""

import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import psutil

from sapo.grid.repository import Origin
from sapo.runtime.errors import DataError

LOCAL = Path(".dvc/config.local")
KEPT = ".checkpoints"  # of the clone before: a training goes on from there
MARK = "SAPO_GRID_CLONE"  # in the environment of all that works in a clone


def make(repository: Path, clone: Path, origin: Origin, cache: Path, remote: str = "") -> None:
    """Clone the commit, with the user's changes if there are any, and let DVC use the cache or the remote.

    What an earlier attempt left goes: finished stages come back from the cache, and `.checkpoints` stays.
    """
    end_orphans(clone)
    saved = clone.with_name(f"{clone.name}{KEPT}")
    if (clone / KEPT).is_dir():
        shutil.rmtree(saved, ignore_errors=True)
        (clone / KEPT).rename(saved)
    shutil.rmtree(clone, ignore_errors=True)
    clone.parent.mkdir(parents=True, exist_ok=True)
    # Without a checkout: the user's branch is not what runs, and an experiment wants no branch
    run("git", "clone", "--quiet", "--no-checkout", "--no-tags", str(repository), str(clone))
    run("git", "-C", str(clone), "checkout", "--quiet", "--detach", origin.head)
    if origin.dirty:
        changes = run("git", "-C", str(repository), "diff-tree", "-p", "--binary", origin.head, origin.tree)
        run("git", "-C", str(clone), "apply", "--index", "--whitespace=nowarn", given=changes)
    for name in ("user.name", "user.email"):
        told = subprocess.run(["git", "-C", str(repository), "config", name], capture_output=True, text=True)
        run("git", "-C", str(clone), "config", name, told.stdout.strip() or "grid")
    share_cache(repository, clone, cache, remote)
    if saved.is_dir():
        saved.rename(clone / KEPT)


def share_cache(repository: Path, clone: Path, cache: Path, remote: str = "") -> None:
    """DVC's local settings of the clone: the user's own, and the shared cache, or its own and a remote."""
    local = ConfigParser(interpolation=None, strict=False)
    local.read(repository / LOCAL, encoding="utf-8")
    if not local.has_section("cache"):
        local.add_section("cache")
    local["cache"]["dir"] = str(clone / ".dvc/cache" if remote else cache)
    if remote:
        local["core"] = {**(local["core"] if local.has_section("core") else {}), "remote": remote}
    with (clone / LOCAL).open("w", encoding="utf-8") as stream:
        local.write(stream)


def end_orphans(clone: Path) -> None:
    """Kill what works in the clone on this machine still, though what started it was killed."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(clone):
                process.kill()
        except (psutil.Error, OSError):
            continue


def unfinished(clone: Path) -> bool:
    """Whether there are checkpoints of a training that was stopped: a finished one has none."""
    return any(any(folder.glob("*")) for folder in (clone / KEPT, clone.with_name(f"{clone.name}{KEPT}")))


def remove(clone: Path) -> None:
    shutil.rmtree(clone, ignore_errors=True)
    shutil.rmtree(clone.with_name(f"{clone.name}{KEPT}"), ignore_errors=True)


def run(*command: str, given: bytes | None = None) -> bytes:
    """What a command prints. Raises DataError where it fails."""
    done = subprocess.run(command, input=given, capture_output=True)
    if done.returncode:
        raise DataError(f"`{' '.join(command)}`: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
