"""Make `published/` and `results/` anew: this project's own results at the default settings.

usage: python tools/publish.py          # run all of them in a clone of the last commit: an hour or two
       python tools/publish.py --same   # record that changed code gives the results that are stored

published/ holds adapters, prompts, predictions and scores of four methods at the default seed, results/ one
small file for each of these runs, for other seeds, and for further methods. A run of `publish.py` that was
stopped goes on where it was, in .publish/.

With --same one method, which uses the code of all four, is run whole, and must make all that is stored of it
again, byte for byte; outputs that the earlier code did not have are added. The metrics and row scores of the
further methods, which use other code, must be the stored ones too, and so must a part of the study. Else
nothing changes, and results/ does in no case. Either way published/, results/,
dvc.lock, metrics/, plots/, study/ and the README's tables are then to be committed together.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from sapo.analysis.comparison import grouped, read_run, telling
from sapo.analysis.comparison_tables import asked, markdown
from sapo.analysis.figure_methods import methods
from sapo.artifacts.provenance import FOLDER
from sapo.artifacts.results import RunResults
from sapo.artifacts.scores import RowScores, rows_path
from sapo.artifacts.study import PairPredictors, PairTrainings, predictors_path, trainings_path
from sapo.artifacts.summary import DETAILS, HEADLINE_METRIC, Summary
from sapo.grid.repository import DECIDES
from sapo.runtime.errors import DataError
from sapo.runtime.files import parse_yaml, read_yaml, sha256_json
from sapo.runtime.outputs import write_json, write_text
from sapo.settings.study import FEWEST, Pair

STUDY = "study/dvc.yaml"  # runs from the models of the default method
DEFAULT = "lora_inc_sapo"  # the method of the committed params.yaml and dvc.lock
METHODS = ("lora_inc", "olora", "olora_sapo", DEFAULT)
MORE_SEEDS = 2  # of these methods, after the default one
ONCE = ("joint", "seq_lora", "replay")  # at the default seed alone, in results/ alone
DIFFERENCES = [("lora_inc_sapo", "lora_inc"), ("olora_sapo", "olora")]
DRAWN = ("seq_lora", "lora_inc", "lora_inc_sapo", "joint")  # in the README's figure
STORE, RESULTS, WORK = Path("published"), Path("results"), Path(".publish")
CHECKED = "olora_sapo"  # selects prompts and has the orthogonal term
README, START, END = Path("README.md"), "<!-- results -->\n", "<!-- /results -->\n"
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
        with_tables(README.read_text(encoding="utf-8"), [])  # before the work: it needs its marks
        if same:
            with tempfile.TemporaryDirectory() as scratch:
                take_over(record_again(Path(scratch)), STORE)
        else:
            take_over(run_all(WORK / decided_by()[:12]), STORE, RESULTS)
        names = sorted(str(path) for path in RESULTS.glob("*.json"))
        groups = grouped([read_run(name) for name in names])
        tables = markdown(groups, asked(groups, DIFFERENCES), HEADLINE_METRIC, "chosen")
        write_text(README, with_tables(README.read_text(encoding="utf-8"), tables))
        drawn = [group for label in DRAWN for group in groups if group.label == label]
        methods(RESULTS / "stages.png", drawn, HEADLINE_METRIC, "chosen")
        shutil.rmtree(WORK, ignore_errors=True)
    except DataError as error:
        sys.exit(f"error: {error}")
    size = sum(path.stat().st_size for path in STORE.rglob("*") if path.is_file())
    print(
        f"published/ holds {size / 1e6:.1f} MB; "
        "commit it with results/, dvc.lock, metrics/, plots/ and README.md"
    )


def clone(folder: Path) -> Path:
    """A clone of the last commit with a DVC cache of its own, whatever this machine's settings are."""
    run(Path(), "git", "clone", "--quiet", "--no-hardlinks", str(Path.cwd()), str(folder))
    run(folder, "dvc", "cache", "dir", "--local", str(folder / ".dvc/cache"))
    return folder


def decided_by() -> str:
    """What the results of the last commit are told apart by."""
    return sha256_json(output("git", "ls-tree", "HEAD", *DECIDES))


def run_all(work: Path) -> Path:
    """Run all in a clone whose store is empty, and push the four methods; the clone, as the default left it.

    What an earlier call has finished there is kept.
    """
    made = work / "made"
    if not (work / "begun").exists():
        shutil.rmtree(work, ignore_errors=True)
        clone(made.resolve())
        shutil.rmtree(made / STORE)
        shutil.rmtree(made / RESULTS, ignore_errors=True)
        (made / "dvc.lock").unlink()  # DVC keeps what it says of stages that are no more
        (work / "begun").touch()
    seed = read_yaml("params.yaml")["seed"]  # the clone's own is that of its last run
    for method in METHODS:  # first: a push takes all that the cache holds
        run_once(made, method, seed, push=True)
    for method, other in [
        *((method, seed) for method in ONCE),
        *((method, seed + more) for more in range(1, MORE_SEEDS + 1) for method in METHODS),
    ]:
        run_once(made, method, other)
    run(made, "dvc", "exp", "run", "-S", f"method={DEFAULT}")
    run(made, "dvc", "repro", STUDY)
    return made


def run_once(made: Path, method: str, seed: int, push: bool = False) -> None:
    """One run in the clone `made`, where its file of results is not there yet."""
    path = made / results_path(method, seed)
    if path.exists():
        return
    found = results_of(made, method, seed)
    if push:
        run(made, "dvc", "push", "--run-cache", "--remote", STORE.name)
    path.parent.mkdir(exist_ok=True)
    found.write(path)


def results_path(method: str, seed: int) -> Path:
    return RESULTS / f"{method}-{seed}.json"


def results_of(made: Path, method: str, seed: int) -> RunResults:
    """Run a method in the clone `made`."""
    print(f"{method}, seed {seed}: running", flush=True)
    run(made, "dvc", "exp", "run", "-S", f"method={method}", "-S", f"seed={seed}")
    settings = read_yaml(made / "params.yaml")
    rows = RowScores.read_lines(made / rows_path(settings["sequence"]["last"]))
    return RunResults(settings=settings, summary=Summary.read(made / DETAILS), rows=list(rows))


def check_same(stored: RunResults, now: RunResults, path: Path) -> None:
    """Refuse results whose metrics or row scores are not those of the file (DataError)."""
    kept, found = stored.content(), now.content()
    if odd := [field for field in ("summary", "rows") if kept[field] != found[field]]:
        raise DataError(f"{path}: {' and '.join(odd)} are not the stored ones; run `make publish`")


def record_again(scratch: Path) -> Path:
    """Store the results again as those of the last commit's code, where it gives the same ones anew.

    Of CHECKED all files are compared, of the methods of ONCE what results/ has. Returns the clone.
    """
    made_by = output("git", "log", "-1", "--format=%H", "--", str(STORE), "dvc.lock", "study/dvc.lock")
    before, now = (
        parse_yaml(output("git", "show", f"{made_by}:params.yaml"), made_by),
        read_yaml("params.yaml"),
    )
    methods = [f"conf/method/{method}.yaml" for method in METHODS]
    differ = output("git", "diff", "--name-only", made_by, "HEAD", "--", *methods)
    if differ or telling(before) != telling(now) or before.get("study", now["study"]) != now["study"]:
        raise DataError(f"the settings have changed since ({differ or 'params.yaml'}): run `make publish`")
    seed = now["seed"]
    paths = {method: results_path(method, seed) for method in ONCE}
    kept = {method: RunResults.read(path) for method, path in paths.items() if path.is_file()}
    old = clone(scratch / "stored")
    run(old, "git", "checkout", "--quiet", "-B", "stored", made_by)
    run(old, "dvc", "remote", "default", "--local", STORE.name)
    run(old, "dvc", "repro", "prepare", "base_model")  # never stored, and needed by the others
    run(old, "dvc", "exp", "run", "--pull", "-S", f"method={CHECKED}")
    stored = results(read_yaml(old / "dvc.lock"))

    new = clone(scratch / "new")
    print(f"{CHECKED}: running, to see whether its results are the stored ones", flush=True)
    run(new, "dvc", "exp", "run", "--force", "-S", f"method={CHECKED}")
    stages = read_yaml(new / "dvc.lock")["stages"]
    made = results({"stages": stages})
    if odd := sorted(path for path, md5 in stored.items() if made.get(path) != md5):
        raise DataError(f"these are not byte for byte the stored ones: {', '.join(odd)}; run `make publish`")
    added = [  # the commands of stages with outputs that the earlier code did not have
        stage["cmd"]
        for stage in stages.values()
        if not results({"stages": {"": stage}}).keys() <= stored.keys()
    ]
    for method, found in kept.items():
        check_same(found, results_of(new, method, seed), paths[method])

    for method in METHODS:
        print(f"{method}: recording", flush=True)
        run(old, "git", "checkout", "--quiet", "--force", made_by, "--", ".")
        run(old, "git", "clean", "--quiet", "-fd", "src")
        run(old, "dvc", "exp", "run", "--pull", "-S", f"method={method}")
        for name in ("src", "dvc.yaml", STUDY, ".dvcignore", ".dvc/plots"):
            replace(new / name, old / name)
        shutil.rmtree(old / ".dvc/cache/runs")  # entries of the old code are not to be published again
        # Sections of settings that the stored commit did not have: no stage of it read them
        write_json(old / "params.yaml", now | read_yaml(old / "params.yaml"))  # JSON is YAML
        for command in added:
            run(old, *shlex.split(command))
        pipelines = ["dvc.yaml", *([STUDY] if (old / "study/dvc.lock").is_file() else [])]
        run(old, "dvc", "commit", "--force", *pipelines)
        run(old, "dvc", "remote", "add", "--force", "again", str(scratch / "again"))
        run(old, "dvc", "push", "--run-cache", "--remote", "again")
    if (old / "study/dvc.lock").is_file():
        check_study(old, scratch / "study")
    shutil.rmtree(old / STORE)
    (scratch / "again").rename(old / STORE)
    return old


def check_study(made: Path, scratch: Path) -> None:
    """Do the study's first pair and seed again, under few wordings: the results must be those of `made`."""
    shutil.copytree(made, scratch, symlinks=True)
    settings = read_yaml(made / "params.yaml")
    settings["study"]["wordings"] = FEWEST
    write_json(scratch / "params.yaml", settings)  # JSON is YAML
    pair, seed = Pair(**settings["study"]["pairs"][0]), settings["study"]["seeds"][0]
    run(scratch, sys.executable, "src/study_paraphrase.py")
    for script, more in (("study_losses", []), ("study_train", [str(seed)])):
        run(scratch, sys.executable, f"src/{script}.py", pair.task, pair.after, *more)
    known, found = (PairPredictors.read(folder / predictors_path(pair)) for folder in (made, scratch))
    few = {name: of.values[:FEWEST] for name, of in known.predictors.items()}
    if few != {name: of.values for name, of in found.predictors.items()} or known.before != found.before:
        raise DataError(f"{predictors_path(pair)}: the values are not the stored ones; run `make publish`")
    path = trainings_path(pair, seed)
    if PairTrainings.read(made / path).wordings[:FEWEST] != PairTrainings.read(scratch / path).wordings:
        raise DataError(f"{path}: the scores are not the stored ones; run `make publish`")


def take_over(made: Path, *folders: Path) -> None:
    """Replace these folders, and the files of results that Git has, by those of the clone `made`."""
    if not (made / STORE).is_dir():
        raise DataError(f"the remote {STORE.name!r} is not the folder {STORE}: see .dvc/config")
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made / folder, folder)
    listed = ("ls-files", "--cached", "--others", "--exclude-standard")
    wanted = ("dvc.lock", "metrics", "plots", "study")
    for name in output("git", "-C", str(made), *listed, *wanted).splitlines():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
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
        target.parent.mkdir(parents=True, exist_ok=True)  # the stored commit may not have had it
        shutil.copy(source, target)


def with_tables(text: str, lines: list[str]) -> str:
    """The README with these lines between its marks."""
    before, found, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise DataError(f"{README} has no lines {START.strip()} and {END.strip()} around its tables")
    tables = "".join(line + "\n" for line in lines)
    return f"{before}{START}{tables}{END}{after}"


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
