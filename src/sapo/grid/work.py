"""One unit of work on the node that it was given to: `python -m sapo.grid.work`, a job on its standard input.

The input stays open as long as the one who gave the job lives; see sapo.grid.lifeline.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sapo.grid import clones, lifeline
from sapo.grid.home import Origin
from sapo.grid.kept import Kept
from sapo.grid.pipeline import EXPERIMENT, Stage
from sapo.runtime.errors import DataError
from sapo.runtime.files import sha256_file, sha256_json

STARTED = re.compile(r"Running stage '([^']+)'")
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
PATIENCE = 2 * lifeline.SILENCE  # seconds for an earlier attempt to end
TAIL = 12  # lines of a log that a summary shows


@dataclass(frozen=True)
class Job:
    """What a node has to know. All paths are absolute and seen by every node.

    stages: all that must be there in the end, in their order. keys: of those that the unit itself may run.
    remote: the DVC remote that results come from and go to, where nodes share no cache; empty where they do.
    """

    name: str
    repository: str
    folder: str
    cache: str
    head: str
    tree: str
    final: bool
    overrides: tuple[str, ...]
    params: str
    file: str
    cpus: int
    stages: list[dict[str, Any]]
    keys: tuple[str, ...]
    remote: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def clone(self) -> Path:
        return clone_of(Path(self.folder), self.name)

    @property
    def log(self) -> Path:
        return log_of(Path(self.folder), self.name)


@dataclass
class Outcome:
    """How it went. seconds: of each stage that ran, by name. error: one line; tail: the log's last ones."""

    seconds: dict[str, float] = field(default_factory=dict)
    whole: float = 0.0
    error: str = ""
    tail: list[str] = field(default_factory=list)


def clone_of(folder: Path, name: str) -> Path:
    return folder / "cells" / name


def log_of(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.log"


def do(job: Job) -> Outcome:
    """Clone, run, keep. A failure is in the outcome; so is the time of each stage."""
    outcome, begun = Outcome(), time.monotonic()
    job.log.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(job.log.with_suffix(".lock"))
    try:
        with lock.acquire(timeout=PATIENCE):
            run(job, outcome)
    except Timeout:
        outcome.error = f"another process works on {job.name}: it did not end within {PATIENCE:.0f} s"
    except InterruptedError:
        raise
    except (DataError, OSError) as error:
        outcome.error = str(error)
    outcome.whole = time.monotonic() - begun
    return outcome


def run(job: Job, outcome: Outcome) -> None:
    clone = job.clone
    stages = [Stage(**stage) for stage in job.stages]
    own = [stage for stage in stages if stage.key in job.keys]
    kept = Kept(Path(job.folder) / "kept")
    clones.make(Path(job.repository), clone, Origin(job.head, job.tree), Path(job.cache), job.remote)
    kept.place(clone, stages)
    pull = ["--pull"] if job.remote else []  # the run-cache too
    if job.final:
        settings = [part for override in job.overrides for part in ("-S", override)]
        file = [job.file] if job.file != EXPERIMENT else []
        command = ["exp", "run", *pull, "--name", job.name, *settings, *file]
    else:
        (clone / "params.yaml").write_text(job.params, encoding="utf-8")
        command = ["repro", *pull, *(stage.target for stage in own)]
    status, lines, outcome.seconds = follow(["dvc", *command], clone, environment(job), job.log)
    if job.remote and not status:
        push = ["dvc", "push", "--run-cache", *(stage.target for stage in (stages if job.final else own))]
        status, lines, _ = follow(push, clone, environment(job), job.log)
    if status < 0:
        raise InterruptedError(f"dvc was killed (signal {-status})")
    if status:
        outcome.error = why(lines) or f"dvc ended with status {status}"
        outcome.tail = [line for line in lines if line.strip()][-TAIL:]
    elif not job.final:
        kept.put(clone, own)


def follow(
    command: list[str], clone: Path, variables: Mapping[str, str], path: Path
) -> tuple[int, list[str], dict[str, float]]:
    """Run DVC in the clone and log what it prints: exit status, lines, seconds of each stage that ran."""
    lines, begun = list[str](), dict[str, float]()
    with path.open("a", encoding="utf-8") as log:
        print(
            f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}, {os.uname().nodename}: {' '.join(command)}", file=log
        )
        dvc = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=clone,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # a group of its own, so that all of it can be killed
        )
        lifeline.started.append(dvc)
        assert dvc.stdout
        for line in map(str.rstrip, dvc.stdout):
            print(line, file=log, flush=True)
            lines.append(line)
            if found := STARTED.search(line):
                begun[found[1]] = time.monotonic()
        status = dvc.wait()
    marks = [*begun.values(), time.monotonic()]
    seconds = {name: round(end - begun[name], 2) for name, end in zip(begun, marks[1:], strict=True)}
    return status, lines, {name.rpartition(":")[2]: took for name, took in seconds.items()}


def environment(job: Job) -> dict[str, str]:
    """For DVC and its stages: this Python first, threads for the cell's cores, DVC's tables in the clone."""
    variables = dict(os.environ)
    path = variables.pop("PYTHONPATH", "")  # the stages import the clone's code
    others = [part for part in path.split(os.pathsep) if part and Path(part) != Path(job.repository, "src")]
    return (
        variables
        | ({"PYTHONPATH": os.pathsep.join(others)} if others else {})
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{variables.get('PATH', '')}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(job.clone / ".dvc/tmp/site"),  # goes with the clone
            **dict.fromkeys(THREADS, str(job.cpus)),
        }
    )


def why(lines: list[str]) -> str:
    """The line that tells a person most: a stage's own error, else DVC's."""
    for start in ("error:", "ERROR:"):
        if found := [line for line in lines if line.startswith(start)]:
            return found[-1 if start == "error:" else 0]
    return ""


def main() -> None:
    lifeline.step_back()
    content = json.loads(sys.stdin.readline())
    lifeline.end_with_giver(Path(content["folder"]))
    if "probe" in content:
        result = probe(Path(content["folder"]), Path(content["cache"]), content["probe"])
    else:
        result = asdict(do(Job(**content)))
    print(json.dumps(result), flush=True)
    os._exit(0)  # the thread that reads the input would wait


def probe(folder: Path, cache: Path, token: str) -> dict[str, Any]:
    """What the driver compares before it gives work to this node."""
    from sapo.artifacts.versions import versions

    unwritable = ""
    for place in (folder, cache):
        try:
            mark = place / f".probe-{os.uname().nodename}-{os.getpid()}"
            mark.touch()
            mark.unlink()
        except OSError as error:
            unwritable = unwritable or f"{place}: {error.strerror}"
    return {
        "node": os.uname().nodename,
        "versions": versions(),
        "code": code(),
        "sees": (folder / token).is_file(),
        "unwritable": unwritable,
    }


def code() -> str:
    """A hash of the program that this process runs."""
    top = Path(__file__).parents[2]
    files = sorted(path for path in top.rglob("*.py"))
    return sha256_json([[str(path.relative_to(top)), sha256_file(path)] for path in files])


if __name__ == "__main__":
    main()
