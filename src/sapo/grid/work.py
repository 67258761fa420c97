"""One unit of work on the node that it was given to: `python -m sapo.grid.work`, a job on its standard input.

The input stays open as long as the one who gave the job lives; see sapo.grid.lifeline.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sapo.artifacts.versions import versions
from sapo.grid import clones, lifeline
from sapo.grid.kept import Kept, forget_missing
from sapo.grid.pipeline import EXPERIMENT, Stage
from sapo.grid.repository import Origin
from sapo.runtime.errors import DataError

STARTED, ENDED = re.compile(r"Running stage '([^']+)'"), re.compile("Updating lock file")
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
    threads: of each process of a stage.
    sign: the file by which the driver shows that it lives. versions: of libraries, those that the node
    has to have.
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
    threads: int
    gpus: int
    sign: str
    versions: dict[str, str]
    stages: list[dict[str, Any]]
    keys: tuple[str, ...]
    remote: str = ""

    @property
    def clone(self) -> Path:
        return clone_of(Path(self.folder), self.name)

    @property
    def log(self) -> Path:
        return log_of(Path(self.folder), self.name)


@dataclass
class Outcome:
    """How it went. seconds: of each stage that ran, by name. error: one line; tail: the log's last ones.

    whole: seconds from the clone to the end. unfit: the node is the error, and would be that of any unit.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    whole: float = 0.0
    error: str = ""
    unfit: bool = False
    tail: list[str] = field(default_factory=list)


def clone_of(folder: Path, name: str) -> Path:
    return folder / "cells" / name


def log_of(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.log"


def do(job: Job) -> Outcome:
    """Clone, run, keep. A failure is in the outcome; so is the time of each stage."""
    outcome, begun = Outcome(), time.monotonic()
    if unlike := other_than(job.versions, versions()):
        return Outcome(error=f"node {os.uname().nodename} has {unlike}", unfit=True)
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
    for pipeline in {EXPERIMENT, job.file}:
        names = {stage.name for stage in stages if stage.file == pipeline}
        forget_missing(clone, pipeline, names, None if job.remote else Path(job.cache))
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
    lines, seconds, under_way, begun = list[str](), dict[str, float](), "", 0.0
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
        try:
            for line in map(str.rstrip, dvc.stdout):
                print(line, file=log, flush=True)
                lines.append(line)
                started = STARTED.search(line)
                if under_way and (started or ENDED.match(line)):
                    seconds[under_way], under_way = round(time.monotonic() - begun, 2), ""
                if started:
                    under_way, begun = started[1].rpartition(":")[2], time.monotonic()
            status = dvc.wait()
        finally:
            if dvc.poll() is None:  # the log could not be written
                os.killpg(dvc.pid, signal.SIGKILL)
                dvc.wait()
    if under_way:
        seconds[under_way] = round(time.monotonic() - begun, 2)
    return status, lines, seconds


def environment(job: Job) -> dict[str, str]:
    """For DVC and its stages: this Python first, threads for the cell's cores, DVC's tables in the clone.

    Ray names the GPUs of a cell that has some; where it has none, Ray leaves all of them visible.
    """
    variables = dict(os.environ)
    path = variables.pop("PYTHONPATH", "")  # the stages import the clone's code
    ours = (Path(job.repository, "src"), Path(__file__).parents[2])
    others = [part for part in path.split(os.pathsep) if part and Path(part) not in ours]
    return (
        variables
        | ({"PYTHONPATH": os.pathsep.join(others)} if others else {})
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{variables.get('PATH', '')}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(job.clone / ".dvc/tmp/site"),  # goes with the clone
            clones.MARK: str(job.clone),
            **dict.fromkeys(THREADS, str(job.threads)),
            **({} if job.gpus else {"CUDA_VISIBLE_DEVICES": ""}),
        }
    )


def why(lines: list[str]) -> str:
    """The line that tells a person most: a stage's own error, else DVC's."""
    for start in ("error:", "ERROR:"):
        if found := [line for line in lines if line.startswith(start)]:
            return found[-1 if start == "error:" else 0]
    return ""


def main() -> None:
    lifeline.go_on_as_child()
    content = json.loads(sys.stdin.readline())
    if "probe" in content:
        result = probe(
            Path(content["repository"]), [Path(place) for place in content["probe"]], content["mark"]
        )
    else:
        lifeline.end_with_giver(Path(content["sign"]))
        try:
            result = asdict(do(Job(**content)))
        except InterruptedError:
            lifeline.end()
        except Exception as error:  # a fault of ours, with this unit: others may go on
            tail = traceback.format_exc().splitlines()[-TAIL:]
            result = asdict(Outcome(error=f"{type(error).__name__}: {error}", tail=tail))
    print(json.dumps(result), flush=True)
    os._exit(0)  # the thread that reads the input would wait


def probe(repository: Path, places: Sequence[Path], mark: str) -> dict[str, Any]:
    """What the driver looks at before it gives work to this node. mark: a file that it left in each place."""
    faults = [] if (repository / ".git").exists() else [f"does not see the repository {repository}"]
    for place in places:
        try:
            own = place / f"{mark}-{os.uname().nodename}-{os.getpid()}"
            own.touch()
            own.unlink()
        except OSError as error:
            faults.append(f"cannot write {place}: {error.strerror}")
            continue
        if not (place / mark).exists():
            faults.append(
                f"has another {place} than the driver: nodes share the folder, and the cache without --remote"
            )
    return {"versions": versions(), "fault": (faults or [""])[0]}


def other_than(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """How a node's libraries differ from the driver's; empty where they do not."""
    differ = [
        f"{name} {theirs.get(name, 'missing')} instead of {ours.get(name, 'none')}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    return f"other versions: {', '.join(differ)}" if differ else ""


if __name__ == "__main__":
    main()
