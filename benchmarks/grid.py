"""The grid against one experiment after another and against DVC's queue, with the tiny model.

    python benchmarks/grid.py --methods 6 --seeds 4 --at-once 2
    python benchmarks/grid.py --sides grid --methods 2 --seeds 1     # only to see it run

Each side works in a clone of the last commit with an empty DVC cache. Prints and writes to results/grid.json,
of each side: seconds, stages run, cells that are missing, seconds a cell, of the grid also those of clones
and DVC, and how many cells have other results than those of the first side, output by output.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
METHODS = ("lora_inc", "lora_inc_sapo", "olora", "olora_sapo", "replay", "seq_lora")
PAIR = """name: pair
source: embedded
path: src/sapo/data/tasks
tasks:
  reuters_r8: {after: base}
  xsum: {after: reuters_r8}
last: xsum
"""
SMALL = [
    *("sequence=pair", "model=tiny_llama", "data.train_rows=6", "data.test_rows=3", "paraphrase.count=2"),
    *("selection.rows=4", "prompt.max_tokens=900", "evaluate.max_new_tokens=4", "train.epochs=1"),
]
BESIDE = re.compile(r"took ([0-9.]+) s a cell, beside the stages")
STARTED = re.compile(r"Running stage '([^']+)'")
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "OMP_NUM_THREADS": "1",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", type=int, default=6, help="so many of them (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=2, help="cells, and workers of the queue")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--name", default="grid", help="the result is results/NAME.json")
    options = parser.parse_args()
    axes = [
        "method=" + ",".join(METHODS[: options.methods]),
        "seed=" + ",".join(str(seed + 1) for seed in range(options.seeds)),
    ]
    found, made = {}, {}
    with tempfile.TemporaryDirectory() as work:
        for side in options.sides:
            folder = clone(Path(work, side))
            begun = time.monotonic()
            log = SIDES[side](folder, axes, options.at_once)  # and what the command prints
            seconds = time.monotonic() - begun
            made[side] = experiments(folder)
            counted = Counter(STARTED.findall(log))
            cells = options.methods * options.seeds
            found[side] = {
                "seconds": round(seconds, 1),
                "stages": sum(counted.values()),
                "missing": cells - len(made[side]),
                "seconds_a_cell": round(seconds / cells, 1),
            }
            if beside := BESIDE.search(log):
                found[side]["beside_stages_a_cell"] = float(beside[1])
            print(side, found[side], flush=True)
    first = made[options.sides[0]]
    for side in options.sides:
        found[side]["other_results"] = sum(
            made[side][key] != first[key] for key in first if key in made[side]
        )
    result = {"methods": options.methods, "seeds": options.seeds, "at_once": options.at_once, "sides": found}
    path = REPOSITORY / f"benchmarks/results/{options.name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(result)


def clone(folder: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    (folder / "conf/sequence/pair.yaml").write_text(PAIR)
    for name in ("dvc.lock", "study/dvc.lock"):
        (folder / name).unlink(missing_ok=True)
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-qm", "small")
    run(folder, "git", "config", "user.name", "benchmark")
    run(folder, "git", "config", "user.email", "benchmark@example.org")
    return folder


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def settings(*more: str) -> list[str]:
    return [part for override in [*SMALL, *more] for part in ("-S", override)]


def by_grid(folder: Path, axes: list[str], at_once: int) -> str:
    cpus = max((os.cpu_count() or 1) // at_once, 1)
    told = run(folder, sys.executable, "tools/grid.py", "--cpus", str(cpus), *settings(*axes))
    return told + "".join(path.read_text(encoding="utf-8") for path in folder.glob(".grid/logs/*.log"))


def one_after_another(folder: Path, axes: list[str], at_once: int) -> str:
    methods, seeds = (axis.partition("=")[2].split(",") for axis in axes)
    return "".join(
        run(folder, "dvc", "exp", "run", *settings(f"method={method}", f"seed={seed}"))
        for method in methods
        for seed in seeds
    )


def by_queue(folder: Path, axes: list[str], at_once: int) -> str:
    run(folder, "dvc", "exp", "run", "--queue", *settings(*axes))
    run(folder, "dvc", "queue", "start", "-j", str(at_once))
    while re.search(r"Queued|Running", table := run(folder, "dvc", "queue", "status")):
        time.sleep(2)
    tasks = [line.split()[0] for line in table.splitlines() if re.match(r"[0-9a-f]{7} ", line)]
    return "".join(
        subprocess.run(
            ["dvc", "queue", "logs", task], cwd=folder, env=ENVIRONMENT, text=True, capture_output=True
        ).stdout
        for task in tasks
    )


def experiments(folder: Path) -> dict[tuple[str, int], dict[str, str]]:
    """The hash of each output of each experiment but for provenance, by method and seed."""
    found = {}
    for ref in run(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split():
        if ref.startswith("refs/exps/exec") or "/celery/" in ref:
            continue
        params, lock = (
            yaml.safe_load(run(folder, "git", "show", f"{ref}:{name}"))
            for name in ("params.yaml", "dvc.lock")
        )
        outs = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
        found[params["method"]["name"], params["seed"]] = {
            path: md5 for path, md5 in outs.items() if not path.startswith("metrics/provenance")
        }
    return found


SIDES: dict[str, Callable[[Path, list[str], int], str]] = {
    "grid": by_grid,
    "one_after_another": one_after_another,
    "queue": by_queue,
}

if __name__ == "__main__":
    main()
