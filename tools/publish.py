"""Make `published/` anew: this project's own results of the four methods at the default settings.

usage: python tools/publish.py          # run all of them in a clone of the last commit: a quarter of an hour
       python tools/publish.py --same   # record that changed code gives the results that are stored

With --same one method, which uses the code of all four, is run whole, and all that it makes must be byte for
byte what is stored; else nothing changes. Either way published/, dvc.lock, metrics/, plots/ and the README's
table are then to be committed together.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from sapo.analysis.answer_metrics import METRICS
from sapo.artifacts.provenance import FOLDER
from sapo.artifacts.summary import SUMMARY, Summary
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_yaml
from sapo.runtime.outputs import write_text

DEFAULT = "lora_inc_sapo"  # the method of the committed params.yaml and dvc.lock: the last to run
METHODS = ("lora_inc", "olora", "olora_sapo", DEFAULT)
STORE = Path("published")
CHECKED = "olora_sapo"  # selects prompts and has the orthogonal term
README, START, END = Path("README.md"), "<!-- results -->\n", "<!-- /results -->\n"
COLUMNS = ("AP", "BWT", "FWT", "forgetting", "new_task")
LEAVES = str(FOLDER)  # when and where: differs from run to run


def main() -> None:
    parser = argparse.ArgumentParser(description="Make published/ anew, from the last commit.")
    parser.add_argument(
        "--same", action="store_true", help="record that changed code gives the stored results"
    )
    same = parser.parse_args().same
    if changed := output("git", "status", "--porcelain"):
        sys.exit(f"error: what is published is of a commit; commit or stash first:\n{changed}")
    try:
        with_table(README.read_text(encoding="utf-8"), {})  # before the work: it needs its marks
        with tempfile.TemporaryDirectory() as scratch:
            made, tables = record_again(Path(scratch)) if same else run_all(Path(scratch))
            take_over(made)
        write_text(README, with_table(README.read_text(encoding="utf-8"), tables))
    except DataError as error:
        sys.exit(f"error: {error}")
    size = sum(path.stat().st_size for path in STORE.rglob("*") if path.is_file())
    print(f"published/ holds {size / 1e6:.1f} MB; commit it with dvc.lock, metrics/, plots/ and README.md")


def clone(folder: Path) -> Path:
    """A clone of the last commit with a DVC cache of its own, whatever this machine's settings are."""
    run(Path(), "git", "clone", "--quiet", "--no-hardlinks", str(Path.cwd()), str(folder))
    run(folder, "dvc", "cache", "dir", "--local", str(folder / ".dvc/cache"))
    return folder


def run_all(scratch: Path) -> tuple[Path, dict[str, Summary]]:
    """Run and push the four methods in a clone whose store is empty; the clone, and each one's metrics."""
    made = clone(scratch / "made")
    shutil.rmtree(made / STORE)
    (made / "dvc.lock").unlink()  # DVC keeps what it says of stages that are no more
    tables = {}
    for method in METHODS:
        print(f"{method}: running", flush=True)
        run(made, "dvc", "exp", "run", "-S", f"method={method}")
        run(made, "dvc", "push", "--run-cache", "--remote", STORE.name)
        tables[method] = Summary.read(made / SUMMARY)
    return made, tables


def record_again(scratch: Path) -> tuple[Path, dict[str, Summary]]:
    """Store the results again as those of the last commit's code, where it gives one method's anew."""
    made_by = output("git", "log", "-1", "--format=%H", "--", str(STORE), "dvc.lock")
    settings = ["params.yaml", *(f"conf/method/{method}.yaml" for method in METHODS)]
    if differ := output("git", "diff", "--name-only", made_by, "HEAD", "--", *settings):
        raise DataError(f"the settings have changed since ({differ}): run `make publish`")
    old = clone(scratch / "stored")
    run(old, "git", "checkout", "--quiet", "-B", "stored", made_by)
    run(old, "dvc", "remote", "default", "--local", STORE.name)
    run(old, "dvc", "repro", "prepare", "base_model")  # never stored, and needed by the others
    run(old, "dvc", "exp", "run", "--pull", "-S", f"method={CHECKED}")
    stored = results(read_yaml(old / "dvc.lock"))

    new = clone(scratch / "new")
    print(f"{CHECKED}: running, to see whether its results are the stored ones", flush=True)
    run(new, "dvc", "exp", "run", "--force", "-S", f"method={CHECKED}")
    now = results(read_yaml(new / "dvc.lock"))
    if odd := sorted(path for path in stored.keys() | now.keys() if stored.get(path) != now.get(path)):
        raise DataError(f"these are not byte for byte the stored ones: {', '.join(odd)}; run `make publish`")

    tables = {}
    for method in METHODS:
        print(f"{method}: recording", flush=True)
        run(old, "git", "checkout", "--quiet", "--force", made_by, "--", ".")
        run(old, "git", "clean", "--quiet", "-fd", "src")
        run(old, "dvc", "exp", "run", "--pull", "-S", f"method={method}")
        for name in ("src", "dvc.yaml", ".dvcignore"):
            replace(new / name, old / name)
        shutil.rmtree(old / ".dvc/cache/runs")  # entries of the old code are not to be published again
        run(old, "dvc", "commit", "--force")
        run(old, "dvc", "remote", "add", "--force", "again", str(scratch / "again"))
        run(old, "dvc", "push", "--run-cache", "--remote", "again")
        tables[method] = Summary.read(old / SUMMARY)
    shutil.rmtree(old / STORE)
    (scratch / "again").rename(old / STORE)
    return old, tables


def take_over(made: Path) -> None:
    """Replace the store, and the files of results that Git has, by those of the clone `made`."""
    if not (made / STORE).is_dir():
        raise DataError(f"the remote {STORE.name!r} is not the folder {STORE}: see .dvc/config")
    shutil.rmtree(STORE)
    shutil.copytree(made / STORE, STORE)
    for name in output("git", "ls-files", "dvc.lock", "metrics", "plots").splitlines():
        shutil.copy(made / name, name)


def results(lock: dict[str, Any]) -> dict[str, str]:
    """Output -> hash, of all stages of a dvc.lock, but for when and where they ran."""
    outs = [out for stage in lock["stages"].values() for out in stage.get("outs", [])]
    return {out["path"]: out["md5"] for out in outs if not out["path"].startswith(LEAVES)}


def replace(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target)
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def with_table(text: str, tables: dict[str, Summary]) -> str:
    """The README with a new table between its marks: the first metric, with intervals."""
    before, found, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise DataError(f"{README} has no lines {START.strip()} and {END.strip()} around its table")
    name, metric = next(iter(METRICS.items()))
    lines = [["method", *(name.replace("_", " ") for name in COLUMNS)], ["---"] * (1 + len(COLUMNS))]
    for method, summary in sorted(tables.items()):
        values, intervals = summary.values(name, "chosen"), summary.intervals(name, "chosen")
        cells = [f"{metric.shown(values[column])} {metric.ends(intervals[column])}" for column in COLUMNS]
        lines.append([f"`{method}`", *cells])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{before}{START}{table}{END}{after}"


def run(folder: Path, *command: str) -> None:
    """Run a command to its end, its output shown; DataError where it fails."""
    # this Python's dvc and python come first
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
    program = shutil.which(command[0], path=path) or command[0]
    if subprocess.run([program, *command[1:]], cwd=folder, env=environment).returncode:
        raise DataError(f"`{' '.join(command)}` failed, see above; published/ is as it was")


def output(*command: str) -> str:
    """What a command prints; DataError where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"`{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
