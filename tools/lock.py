"""Compile the lock files from their .in files. What is pinned keeps its version, unless it is to be raised.

usage: python tools/lock.py [--upgrade | --upgrade-package=NAME ...]     # options of `uv pip compile`

One lock serves every Python in PYTHONS. No file changes unless all of them resolve.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PYTHONS = ("3.11", "3.12", "3.13")
# Each agrees with those before it
LOCKS = ("requirements", "requirements-remotes", "requirements-grid", "requirements-dev")
ACCELERATOR = re.compile(r"(nvidia|cuda|triton)\b")  # these come with the build of torch that is installed
FORM = ("--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links")


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path in Path().glob("requirements*"):
            shutil.copy(path, folder)
        for lock in LOCKS:
            compile_lock(folder, lock, sys.argv[1:])
        for lock in LOCKS:
            replace(folder / f"{lock}.txt", Path(f"{lock}.txt"))


def compile_lock(folder: Path, lock: str, options: list[str]) -> None:
    """Compile one lock for the oldest Python, then see that it resolves, and is complete, for each."""
    path = folder / f"{lock}.txt"
    # With one version of a package for all Pythons, a change of Python changes no number by itself.
    universal = ("--universal", "--fork-strategy=fewest", f"--python-version={PYTHONS[0]}")
    resolve(folder, f"{lock}.in", *universal, f"--output-file={path.name}", *options)
    pins = pinned(path.read_text())
    path.write_text("".join(f"{pin}\n" for pin in pins))
    known = {pin.partition(" ;")[0] for pin in pins}
    for python in PYTHONS:
        needed = pinned(resolve(folder, path.name, f"--python-version={python}"))
        if missing := [pin for pin in needed if pin.partition(" ;")[0] not in known]:
            sys.exit(f"error: {path.name} lacks for Python {python}: {', '.join(missing)}")


def resolve(folder: Path, name: str, *options: str) -> str:
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", *FORM, *options, name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        version = " ".join(option for option in options if option.startswith("--python-version"))
        sys.exit(f"error: {name} does not resolve ({version}): {' '.join(done.stderr.split())}")
    return done.stdout


def pinned(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not ACCELERATOR.match(line)]


def replace(new: Path, old: Path) -> None:
    """Only where something changed, so that `make` does not set up again for nothing."""
    if not old.exists() or old.read_text() != new.read_text():
        print(f"{old}: new versions")
        shutil.copy(new, old)


if __name__ == "__main__":
    main()
