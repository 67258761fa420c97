"""Make `published/` anew: this project's own results of the four methods at the default settings.

usage: python tools/publish.py          # run all of them in a clone of the last commit: a quarter of an hour
       python tools/publish.py --same   # sign the stored results for changed code that changes no number

With --same one method is run whole, and all that it makes must be byte for byte what is stored; else nothing
changes. Either way published/, dvc.lock, metrics/, plots/ and the README's table are then to be committed
together.
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
RESULTS = (STORE, Path("dvc.lock"), SUMMARY, Path("plots"))  # what is committed of them
README, START, END = Path("README.md"), "<!-- results -->\n", "<!-- /results -->\n"
COLUMNS = ("AP", "BWT", "FWT", "forgetting", "new_task")
LEAVES = str(FOLDER)  # when and where: differs from run to run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--same", action="store_true", help="sign the stored results for changed code")
    same = parser.parse_args().same
    if changed := output("git", "status", "--porcelain"):
        sys.exit(f"error: what is published is of a commit; commit or stash first:\n{changed}")
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "clone"
        run(Path(), "git", "clone", "--quiet", "--no-hardlinks", str(Path.cwd()), str(clone))
        try:
            made, tables = sign_again(clone, Path(scratch)) if same else run_all(clone)
        except DataError as error:
            sys.exit(f"error: {error}")
        shutil.rmtree(STORE)
        for path in RESULTS:
            if (made / path).is_dir():
                shutil.copytree(made / path, path, dirs_exist_ok=True)
            else:
                shutil.copy(made / path, path)
    write_text(README, with_table(README.read_text(encoding="utf-8"), tables))
    size = sum(path.stat().st_size for path in STORE.rglob("*") if path.is_file())
    print(f"published/ holds {size / 1e6:.1f} MB; commit it with dvc.lock, metrics/, plots/ and README.md")


def run_all(clone: Path) -> tuple[Path, dict[str, Summary]]:
    """Run and push the four methods in a clone whose store is empty; each one's metrics."""
    shutil.rmtree(clone / STORE)
    tables = {}
    for method in METHODS:
        print(f"{method}: running", flush=True)
        run(clone, "dvc", "exp", "run", "-S", f"method={method}")
        run(clone, "dvc", "push", "--run-cache")
        tables[method] = Summary.read(clone / SUMMARY)
    return clone, tables


def sign_again(clone: Path, scratch: Path) -> tuple[Path, dict[str, Summary]]:
    """Give the stored results, made by the code of their commit, the signatures of the clone's code."""
    print(f"{DEFAULT}: running, to see whether its results are the stored ones", flush=True)
    stored = results(read_yaml(clone / "dvc.lock"))
    run(clone, "dvc", "repro", "--force")
    now = results(read_yaml(clone / "dvc.lock"))
    if odd := sorted(path for path in stored.keys() | now.keys() if stored.get(path) != now.get(path)):
        raise DataError(f"these are not byte for byte the stored ones: {', '.join(odd)}; run `make publish`")

    old = scratch / "stored"
    made_by = output("git", "log", "-1", "--format=%H", "--", str(STORE))
    run(Path(), "git", "clone", "--quiet", "--no-hardlinks", str(Path.cwd()), str(old))
    run(old, "git", "checkout", "--quiet", "-B", "stored", made_by)
    tables = {}
    for method in METHODS:
        print(f"{method}: signing", flush=True)
        run(old, "git", "checkout", "--quiet", "--force", made_by, "--", ".")
        run(old, "git", "clean", "--quiet", "-fd", "src")
        run(old, "dvc", "exp", "run", "--pull", "-S", f"method={method}")
        for name in ("src", "dvc.yaml", ".dvcignore"):
            replace(clone / name, old / name)
        shutil.rmtree(old / ".dvc/cache/runs")  # what was signed before is not to be pushed again
        run(old, "dvc", "commit", "--force")
        run(old, "dvc", "remote", "add", "--force", "signed", str(scratch / "signed"))
        run(old, "dvc", "push", "--run-cache", "--remote", "signed")
        tables[method] = Summary.read(old / SUMMARY)
    shutil.rmtree(old / STORE)
    (scratch / "signed").rename(old / STORE)
    return old, tables


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
    """The README with a new table between its marks: the first metric, percent, with intervals."""
    before, found, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise DataError(f"{README} has no lines {START.strip()} and {END.strip()} around its table")
    metric = next(iter(METRICS))
    lines = [["method", *(name.replace("_", " ") for name in COLUMNS)], ["---"] * (1 + len(COLUMNS))]
    for method, summary in sorted(tables.items()):
        values, intervals = summary.values(metric, "chosen"), summary.intervals(metric, "chosen")
        cells = [
            f"{values[name]:.1f} "
            f"[{', '.join('-' if end is None else f'{end:.1f}' for end in intervals[name])}]"
            for name in COLUMNS
        ]
        lines.append([f"`{method}`", *cells])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{before}{START}{table}{END}{after}"


def run(folder: Path, *command: str) -> None:
    """Run a command to its end, its output shown; DataError where it fails."""
    if subprocess.run(command, cwd=folder, env=os.environ | {"DVC_NO_ANALYTICS": "1"}).returncode:
        raise DataError(f"`{' '.join(command)}` failed, see above; published/ is as it was")


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
