"""Where does the time of a whole experiment go, and how does it grow with rows, candidates and tasks?

    python benchmarks/pipeline.py                                        # the default experiment, once
    python benchmarks/pipeline.py -S sequence=ni_seq_c1_small -S method=olora_sapo
    python benchmarks/pipeline.py --train-rows 24 48 96 --candidates 2 4 8 --sequence-tasks 1 2 3

Runs `dvc repro` in a clone of this repository's last commit: changes that are not committed are not measured.
For each setting: every stage's own closing line, the total, what the total holds beside the stages (DVC's own
work), a second `dvc repro` that finds nothing changed, and start-up: the same stages with a tiny model and
one row of everything, which leaves imports, reading and writing.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import REPOSITORY, WORK, compose, once, options, record, table

CLOSING = re.compile(r"^(\w+\.py)((?: \S+)*): ([\d.]+) s$", re.MULTILINE)
# Nothing to compute. The tiny model has one token a byte: prompts need more tokens.
EMPTY = (
    *("model=tiny_llama", "data.train_rows=1", "data.test_rows=1", "selection.rows=1", "paraphrase.count=1"),
    *("prompt.max_tokens=2000", "train.epochs=1", "evaluate.max_new_tokens=1"),
)


def call(folder: Path, *command: str) -> str:
    """Run a command with this environment's Python and programs first; show its output only if it fails."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def clone() -> Path:
    """A new clone, without outputs, cache or run-cache."""
    folder = WORK / "pipeline"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    call(REPOSITORY, "git", "clone", "--quiet", str(REPOSITORY), str(folder))
    return folder


def experiment(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """The times of all stages under these settings, whatever was run before."""
    # As `dvc exp run -S` composes it, from the clone's conf/.
    write = (
        "import sys; from dvc.utils.hydra import compose_and_dump as c; "
        "c(*sys.argv[1:3], None, 'config', '', sys.argv[3:])"
    )
    call(folder, sys.executable, "-c", write, "params.yaml", str(folder / "conf"), *once(overrides))
    started = time.perf_counter()
    output = call(folder, sys.executable, "-m", "dvc", "repro", "--force")
    total = time.perf_counter() - started
    stages = [
        {"script": script, "argument": rest.strip(), "seconds": float(s)}
        for script, rest, s in CLOSING.findall(output)
    ]
    if not stages:
        sys.exit(f"no stage said how long it took:\n{output[-4000:]}")
    return {"total_s": total, "stages_s": sum(stage["seconds"] for stage in stages), "stages": stages}


def measure(folder: Path, overrides: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """One line of the report: an experiment, its start-up share, and the run that changes nothing."""
    print(f"{settings or 'default'} ...", file=sys.stderr, flush=True)
    startup = experiment(folder, [*overrides, *EMPTY])
    found = experiment(folder, overrides)
    started = time.perf_counter()
    call(folder, sys.executable, "-m", "dvc", "repro")
    return {
        **settings,
        "total_s": found["total_s"],
        "dvc_s": found["total_s"] - found["stages_s"],
        "startup_s": startup["stages_s"],
        "startup_share": startup["stages_s"] / found["total_s"],
        "unchanged_s": time.perf_counter() - started,
        "stages": found["stages"],
        "startup_stages": startup["stages"],
    }


def first_tasks(arguments: Namespace, count: int) -> list[str]:
    """Overrides that leave the sequence's first `count` tasks."""
    order = compose(arguments.overrides).sequence.order
    if not 1 <= count <= len(order):
        sys.exit(f"--sequence-tasks {count}: the sequence has {len(order)} tasks")
    return [f"sequence.last={order[count - 1]}", *(f"~sequence.tasks.{name}" for name in order[count:])]


def by_script(stages: Sequence[dict[str, Any]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for stage in stages:
        sums[stage["script"]] = sums.get(stage["script"], 0.0) + stage["seconds"]
    return sums


def main() -> None:
    parser = options(__doc__, name="pipeline")
    parser.add_argument(
        "--train-rows", nargs="+", type=int, default=[], help="also with so many training and scored rows"
    )
    parser.add_argument("--candidates", nargs="+", type=int, default=[], help="also with so many paraphrases")
    parser.add_argument(
        "--sequence-tasks", nargs="+", type=int, default=[], help="also with the first so many tasks"
    )
    arguments = parser.parse_args()
    overrides = [f"data.url={arguments.url}", *arguments.overrides] if arguments.url else arguments.overrides
    points: list[tuple[dict[str, Any], list[str]]] = [({}, [])]
    points += [
        ({"train_rows": n}, [f"data.train_rows={n}", f"selection.rows={n}"]) for n in arguments.train_rows
    ]
    points += [({"candidates": n}, [f"paraphrase.count={n}"]) for n in arguments.candidates]
    points += [({"tasks": n}, first_tasks(arguments, n)) for n in arguments.sequence_tasks]
    folder = clone()
    results = [measure(folder, [*overrides, *added], settings) for settings, added in points]
    lines = [
        {"setting": " ".join(f"{key}={value}" for key, value in settings.items()) or "-"}
        | {key: result[key] for key in ("total_s", "dvc_s", "startup_s", "startup_share", "unchanged_s")}
        | by_script(result["stages"])
        for (settings, _), result in zip(points, results, strict=True)
    ]
    table(lines)
    record(arguments, compose(arguments.overrides), results)


if __name__ == "__main__":
    main()
