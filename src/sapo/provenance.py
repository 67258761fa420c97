"""When, where and from which code a stage ran: it differs from run to run, and no number depends on it.

What decides a number stands beside it in the result itself: see sapo.records.
"""

import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from sapo.files import read_object, write_json
from sapo.parallel import world
from sapo.stage import versions

if TYPE_CHECKING:
    from sapo.params import Params

CODE = ("src", "conf", "dvc.yaml", "requirements.txt")  # a run itself changes params.yaml, dvc.lock and what it writes
LOCAL = {"sequence": {"path"}, "paraphrase": {"path"}, "data": {"url"}, "model": {"id"}, "launch": {"command"}}  # may name a host


def write_provenance(path: str | Path, params: "Params", **samples: int) -> None:
    """Write when, where and with what this stage ran, and on how many samples of each kind, as JSON."""
    started = psutil.Process().create_time()
    content = {
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started, 1),
        "samples": samples,
        "code": code_revision(),
        "host": host(),
        "versions": versions(),
        "params": params.model_dump(exclude=LOCAL),
    }
    write_json(path, content)


def code_revision() -> dict[str, Any]:
    """The commit that is checked out, and whether code or settings differ from it; both null outside of Git."""
    revision = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=all", "--", *CODE)
    return {"revision": revision, "dirty": None if revision is None or changed is None else bool(changed)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def host() -> dict[str, Any]:
    """What of the machine may change last digits or durations; no names of hosts, users or paths."""
    torch = sys.modules.get("torch")  # a stage that has loaded no model has not loaded torch either
    cuda = torch is not None and torch.cuda.is_available()
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "threads": torch.get_num_threads() if torch else None,
        "accelerator": torch.cuda.get_device_name() if torch and cuda else None,
        "processes": world(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def gather(folder: str | Path, order: Sequence[str]) -> dict[str, Any]:
    """What all stages of a sequence left in the folder, the sum of their seconds, and the code revisions that they ran under.

    More than one revision: some stages were kept from earlier runs. Raises DataError that names a missing file.
    """
    names = ["evaluate-base", *(f"{script}-{task}" for task in order for script in ("select", "train", "evaluate"))]
    records = {name: read_object(Path(folder) / f"{name}.json", code=dict, seconds=int | float) for name in names}
    codes = {(record["code"].get("revision"), record["code"].get("dirty")) for record in records.values()}
    return {
        "seconds": round(sum(record["seconds"] for record in records.values()), 1),
        "code": [{"revision": revision, "dirty": dirty} for revision, dirty in sorted(codes, key=str)],
        "stages": records,
    }
