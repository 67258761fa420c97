"""When, where and from which code a stage ran: it differs from run to run, and no number depends on it.

What decides a number stands beside it in the result itself: see run_record.
"""

import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import JsonValue

from sapo.artifacts.run_record import RunName
from sapo.artifacts.schema import Artifact, Part
from sapo.artifacts.versions import versions
from sapo.config import BASE, Params
from sapo.runtime.outputs import write_json
from sapo.runtime.processes import process_count

FOLDER, GATHERED = Path("metrics/provenance"), Path("metrics/provenance.json")
# A run itself changes params.yaml, dvc.lock and what it writes
CODE = ("src", "conf", "dvc.yaml", "requirements.txt")
# What may name a host or a folder of this machine
LOCAL: dict[str, set[str] | bool] = {
    "sequence": {"path"},
    "paraphrase": {"path"},
    "data": {"url"},
    "model": {"id", "path", "paths", "adapter", "adapter_path", "adapter_paths"},
    "launch": {"command"},
    "tracking": True,  # nothing depends on it
}


class Code(Part):
    """The commit that is checked out, and whether code or settings differ from it; both null outside Git."""

    revision: str | None
    dirty: bool | None


class Host(Part):
    """What of the machine may change last digits or durations; no names of hosts, users or paths."""

    system: str
    machine: str
    processor: str
    cores: int | None
    threads: int | None  # null for a stage that computes with no model
    accelerator: str | None
    processes: int


class StageProvenance(Artifact):
    started: str
    seconds: float
    samples: dict[str, int]
    code: Code
    host: Host
    versions: dict[str, str]
    params: dict[str, JsonValue]


class RunProvenance(Artifact):
    """metrics/provenance.json. seconds: the stages' sum. code: several if earlier runs' stages were kept."""

    method: str
    model: str
    seed: int
    sequence: str
    seconds: float
    code: list[Code]
    stages: dict[str, StageProvenance]

    def write(self) -> None:
        write_json(GATHERED, self.content())


def write_provenance(script: str, stage: str, params: Params, **samples: int) -> None:
    """Write when, where and with what this stage (SCRIPT-STAGE) ran, and on how many samples of each kind."""
    started = psutil.Process().create_time()
    content = StageProvenance(
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        seconds=round(time.time() - started, 1),
        samples=samples,
        code=code_revision(),
        host=host(),
        versions=versions(),
        params=params.model_dump(exclude=LOCAL),
    )
    write_json(FOLDER / f"{script}-{stage}.json", content.content())


def code_revision() -> Code:
    """Of the working folder."""
    revision = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=all", "--", *CODE)
    return Code(revision=revision, dirty=None if revision is None or changed is None else bool(changed))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def host() -> Host:
    """This machine and process."""
    torch = sys.modules.get("torch")  # a stage that has loaded no model has not loaded torch either
    cuda = torch is not None and torch.cuda.is_available()
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        processor=_processor(),
        cores=psutil.cpu_count(),
        threads=torch.get_num_threads() if torch else None,
        accelerator=torch.cuda.get_device_name() if torch and cuda else None,
        processes=process_count(),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def gather(order: Sequence[str], name: RunName) -> RunProvenance:
    """What all stages of the run left, the tasks in their order.

    Raises ArtifactError that names a missing file.
    """
    names = [
        f"evaluate-{BASE}",
        *(f"{script}-{task}" for task in order for script in ("select", "train", "evaluate")),
    ]
    stages = {name: StageProvenance.read(FOLDER / f"{name}.json") for name in names}
    codes = {(one.code.revision, one.code.dirty): one.code for one in stages.values()}
    seconds = round(sum(one.seconds for one in stages.values()), 1)
    ordered = [codes[key] for key in sorted(codes, key=str)]
    return RunProvenance(**name.model_dump(), seconds=seconds, code=ordered, stages=stages)
