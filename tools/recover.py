"""Repair what a killed DVC left behind, so that the next `dvc repro` or `dvc exp run` needs nobody.

usage: python tools/recover.py        # in the repository's top folder; `make repro` does it before each run

Says what it repaired, and nothing where nothing was wrong. Ends with a line that names settings that no stage
could use. While a DVC works here it touches nothing.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

OUTPUTS = ("data", "models", "metrics", "plots", "study")
# DVC's tables of who reads and writes what, by process id
LOCKS = (".dvc/tmp/rwlock", ".dvc/tmp/exps/rwlock")
PATIENCE = 3.0  # seconds that a DVC may take to end, as an editor's short calls do
EXEC = "refs/exps/exec"  # where `dvc exp run` notes what it is at


def main() -> None:
    if not Path("dvc.yaml").is_file() or not Path(".dvc").is_dir():
        sys.exit("error: run this in the repository's top folder, where dvc.yaml is")
    end = time.monotonic() + PATIENCE
    while working := at_work("dvc"):
        if time.monotonic() > end:
            print(f"DVC is at work here (process {working.pid}): nothing was touched")
            return
        time.sleep(0.1)
    held = [path for name in LOCKS if (path := Path(name)).is_file() and holds_entries(path)]
    preparing = any(
        "workspace" in path.read_text(errors="replace") for path in held if path.parent.name == "exps"
    )
    for path in held:
        path.unlink()
        print(f"{path}: removed what a killed DVC had locked")
    repair_lock_file()
    repair_git(preparing)
    for folder in OUTPUTS:
        for left in [*Path(folder).rglob("*.partial")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
            print(f"{left}: removed, a stage was killed while writing it")
    if Path("src/sapo/config.py").is_file():
        check_settings()


def check_settings() -> None:
    """End with one line where no stage could use params.yaml.

    DVC looks for dependencies first, and of ~/my_tasks it says only that there is no such file.
    """
    from sapo.config import load_params
    from sapo.runtime.command import one_line
    from sapo.runtime.errors import DataError
    from sapo.runtime.trackers import check_keys

    try:
        check_keys(load_params().tracking.report_to)
    except DataError as error:
        sys.exit(f"error: {one_line(str(error))}")


def at_work(program: str) -> psutil.Process | None:
    """A process of the program whose working folder is in this repository."""
    here = Path.cwd().resolve()
    for process in psutil.process_iter():
        try:
            names = {Path(part).name for part in process.cmdline()[:3]}  # dvc; python .../dvc; python -m dvc
            if (
                program in names
                and process.status() != psutil.STATUS_ZOMBIE
                and Path(process.cwd()).is_relative_to(here)
            ):
                return process
        except (psutil.Error, OSError):
            continue
    return None


def holds_entries(path: Path) -> bool:
    """Whether the table names any process, or was cut off while it was written."""
    try:
        return any(json.loads(path.read_text(encoding="utf-8")).values())
    except (ValueError, AttributeError):
        return True


def repair_lock_file() -> None:
    """DVC rewrites dvc.lock in place after each stage; of one that was cut off, the committed state is taken.

    The stages that were run since come back from the run-cache.
    """
    lock = Path("dvc.lock")
    if not lock.exists() or dvc_reads(lock):
        return
    if git("checkout", "HEAD", "--", str(lock)) is None:
        lock.unlink()
    print("dvc.lock was cut off while DVC wrote it: the committed one is back;", end=" ")
    print("finished stages come from the run-cache")


def dvc_reads(lock: Path) -> bool:
    """Whether DVC can read its lock file: listing the stages needs it, and says so where it is cut off."""
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode == 0 or lock.name not in done.stderr


def repair_git(preparing: bool) -> None:
    """`dvc exp run` works on a detached HEAD and keeps uncommitted changes in the stash while it prepares."""
    lock = Path(git("rev-parse", "--git-path", "index.lock") or "")
    if lock.name and lock.is_file() and not at_work("git"):
        lock.unlink()
        print(f"{lock}: removed, no Git is at work here")
    head, branch = git("rev-parse", "HEAD"), git("rev-parse", "--abbrev-ref", "@{-1}")
    by_dvc = preparing or git("rev-parse", "--verify", "--quiet", f"{EXEC}/EXEC_BASELINE")
    if (
        by_dvc
        and git("symbolic-ref", "--quiet", "HEAD") is None
        and branch
        and git("rev-parse", branch) == head
    ):
        git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        git("reset", "--quiet")
        print(f"HEAD is on branch {branch} again: a `dvc exp run` was killed")
    for kept in (f"{EXEC}/EXEC_MERGE", *(["refs/stash"] if preparing else [])):
        bring_back(kept)
    for name in ("EXEC_BASELINE", "EXEC_MERGE", "EXEC_BRANCH"):
        git("update-ref", "-d", f"{EXEC}/{name}")


def bring_back(kept: str) -> None:
    """Uncommitted changes that DVC set aside in the commit `kept`: files as committed or cut off get them."""
    changed = (git("diff", "--name-only", "HEAD") or "").splitlines()
    for name in (git("diff", "--name-only", "--diff-filter=AM", "HEAD", kept) or "").splitlines():
        path = Path(name)
        whole = subprocess.run(["git", "show", f"{kept}:{name}"], capture_output=True).stdout
        now = path.read_bytes() if path.is_file() else b""
        if (
            now != whole
            and (name not in changed or whole.startswith(now))
            and git("checkout", kept, "--", name) is not None
        ):
            git("reset", "--quiet", "--", name)
            print(f"{name}: your uncommitted changes are back, a `dvc exp run` had set them aside")
    if kept == "refs/stash" and git("rev-parse", "--verify", "--quiet", kept):
        print("Git's stash still holds them: drop them with `git stash drop` when you have looked")


def git(*arguments: str) -> str | None:
    """What Git prints, or None where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return None if done.returncode else done.stdout.strip()


if __name__ == "__main__":
    main()
