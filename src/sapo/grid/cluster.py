"""Ray, and nothing else knows it: nodes, a process on one of them for each job, retries where a node dies.

Ray is started on this machine, in this process's life, or an address of a running one is given. A job runs as
a process of its own beside Ray's worker, so that the node needs no more of the program than its folder.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from sapo.artifacts.versions import versions
from sapo.grid.work import Job, Outcome, other_than
from sapo.runtime.errors import DataError

STARTS = 3  # attempts to start Ray here
SCRATCH = "sapo-grid-"  # and the driver's process id: where Ray has its sockets and logs
RETRIES = 3  # of a unit whose worker or node died
REACH = 10.0  # seconds for a connection to an address
TOKEN = Path("~/.ray/auth_token")  # what processes of one Ray know each other by
OBJECTS = 80 * 2**20  # bytes of Ray's object store: jobs hand over a few lines


@dataclass(frozen=True)
class Needs:
    """What one unit gets of a node."""

    cpus: int
    gpus: int

    def __str__(self) -> str:
        cores, gpus = f"{self.cpus} CPU core{'s'[: self.cpus - 1]}", f"{self.gpus} GPU{'s'[: self.gpus - 1]}"
        return f"{cores} and {gpus}" if self.gpus else cores


def start_process(content: str, source: str) -> str:
    """Run on the node, alone and by value: start the work process, and end only after it.

    Raises RuntimeError where the node cannot do it.
    """
    import os
    import subprocess
    import sys

    if not os.path.isdir(source):
        raise RuntimeError(f"it does not see {source}: give --folder, a folder that all nodes see")
    paths = [source, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sapo.grid.work"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(content + "\n")
        process.stdin.flush()
        lines = process.stdout.read().splitlines()
        status = process.wait()
    finally:
        process.stdin.close()
    if status < 0:
        raise InterruptedError(f"the work process was killed (signal {-status})")
    if status or not lines:
        raise RuntimeError((lines or ["the work process said nothing"])[-1])
    return lines[-1]


class Cluster:
    """A running Ray, and the jobs that were given to it."""

    def __init__(self, ray: Any, needs: Needs, source: Path) -> None:
        self.ray, self.needs, self.source = ray, needs, source
        self.task = ray.remote(start_process)
        self.running: dict[Any, str] = {}

    def slots(self) -> int:
        """How many units can run at a time on the nodes that are alive."""
        return sum(self.fits(node) for node in self.nodes())

    def nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def fits(self, node: dict[str, Any]) -> int:
        resources = node["Resources"]
        found = int(resources.get("CPU", 0) // self.needs.cpus)
        return min(found, int(resources.get("GPU", 0) // self.needs.gpus)) if self.needs.gpus else found

    def unused_gpus(self) -> int:
        """GPUs that the cluster has and no unit asks for."""
        return 0 if self.needs.gpus else int(sum(node["Resources"].get("GPU", 0) for node in self.nodes()))

    def wait_for_place(self, seconds: float) -> None:
        """Return when a node has what a unit needs. Raises DataError after so many seconds."""
        end = time.monotonic() + seconds
        while not self.slots():
            if time.monotonic() > end:
                most = {
                    name: max((node["Resources"].get(name, 0) for node in self.nodes()), default=0)
                    for name in ("CPU", "GPU")
                }
                raise DataError(
                    f"no node has {self.needs} (the most: CPU {most['CPU']:.0f}, GPU {most['GPU']:.0f}); "
                    f"waited {seconds:.0f} s: give fewer with --cpus and --gpus, or wait longer with --wait"
                )
            time.sleep(1)

    def probe(self, repository: Path, places: Sequence[Path]) -> None:
        """Ask each node what it has. Raises DataError for one whose work would fail, or not be ours."""
        mark = f".probe-{uuid4().hex}"
        with contextlib.ExitStack() as stack:
            for place in places:
                try:
                    (place / mark).touch()
                except OSError as error:
                    raise DataError(f"cannot write {place}: {error.strerror}") from None
                stack.callback((place / mark).unlink, missing_ok=True)
            self.ask(
                json.dumps({"repository": str(repository), "probe": list(map(str, places)), "mark": mark})
            )

    def ask(self, content: str) -> None:
        """Start a process on each node that fits, and check its answer; see `probe`."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = []
        for node in self.nodes():
            if self.fits(node):
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                task = self.task.options(num_cpus=0, scheduling_strategy=there, max_retries=0)
                asked.append((node["NodeManagerHostname"], task.remote(content, str(self.source))))
        for name, reference in asked:
            try:
                found = json.loads(self.ray.get(reference))
            except Exception as error:
                raise DataError(f"node {name} cannot work: {last_line(error)}") from None
            check_node(name, found, versions())

    def give(self, job: Job) -> None:
        task = self.task.options(
            num_cpus=self.needs.cpus,
            num_gpus=self.needs.gpus,
            max_retries=RETRIES,
            retry_exceptions=[InterruptedError],
            name=job.name,
        )
        self.running[task.remote(json.dumps(asdict(job)), str(self.source))] = job.name

    def ended(self, seconds: float) -> Iterator[tuple[str, Outcome]]:
        """The jobs that have ended, waited for so long."""
        if not self.running:
            return
        ended, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        for reference in ended:
            name = self.running.pop(reference)
            try:
                yield name, Outcome(**json.loads(self.ray.get(reference)))
            except RuntimeError as error:  # of start_process
                yield name, Outcome(error=f"a node cannot work: {last_line(error)}", unfit=True)
            except Exception as error:  # Ray's own, of many kinds: the worker, its node or its memory is gone
                yield name, Outcome(error=f"{type(error).__name__}: {last_line(error)}")

    def end(self) -> None:
        """Kill all that was given out."""
        for reference in self.running:
            with contextlib.suppress(Exception):
                self.ray.cancel(reference, force=True)
        self.running.clear()


@contextlib.contextmanager
def cluster(address: str | None, needs: Needs, source: Path) -> Iterator[Cluster]:
    """Ray at the address, or started here and ended with the block. Raises DataError where there is none."""
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # With no GPU asked for a cell gets none, and is not told that this is new
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
        if address is not None and TOKEN.expanduser().is_file():
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # as `ray start` does
        import ray
    except ImportError:
        raise DataError("Ray is not installed: pip install -r requirements-grid.txt") from None
    scratch = None
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    on_end = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            sweep()
            scratch = tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-")
            start_here(ray, {"_temp_dir": scratch, "include_dashboard": dashboard(), **options})
        else:
            check_reached(address)
            ray.init(address=address, **options)
    except BaseException as error:
        ray.shutdown()
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
        if not isinstance(error, Exception):  # Ctrl-C
            raise
        # Ray has no class of its own for these
        raise DataError(f"no Ray at {address or 'this machine'}: {last_line(error)}") from None
    signal.signal(signal.SIGTERM, on_end)  # Ray sets one of its own, which aborts
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    made = Cluster(ray, needs, source)
    try:
        yield made
    finally:
        made.end()
        ray.shutdown()
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def check_reached(address: str) -> None:
    """Raises OSError where nothing listens: Ray itself would try for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():  # not `auto`, or `local`
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()


def sweep() -> None:
    """Remove the folders of drivers that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{SCRATCH}[0-9]*-*"):
        if not psutil.pid_exists(int(path.name.removeprefix(SCRATCH).partition("-")[0])):
            shutil.rmtree(path, ignore_errors=True)


def start_here(ray: Any, options: dict[str, Any]) -> None:
    """Start Ray on this machine; it gives itself half a minute, too little for a very busy one."""
    for attempt in range(STARTS):
        try:
            # "local", since Ray takes an address from the environment too
            told = ray.init(address="local", object_store_memory=OBJECTS, **options)
            if told.dashboard_url:
                print(f"Ray's dashboard: http://{told.dashboard_url}", flush=True)
            return
        except Exception:
            ray.shutdown()
            for process in psutil.Process().children(recursive=True):  # Ray forgets those of a failed start
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if attempt == STARTS - 1:
                raise


def dashboard() -> bool:
    """Whether what Ray's dashboard needs is installed (`ray[default]`)."""
    from importlib.util import find_spec

    return find_spec("aiohttp_cors") is not None and find_spec("colorful") is not None


def check_node(name: str, found: dict[str, Any], ours: dict[str, str]) -> None:
    """Refuse (DataError) a node whose work would not be this machine's."""
    if unlike := other_than(ours, found["versions"]):
        raise DataError(f"node {name} has {unlike}")
    if found["fault"]:
        raise DataError(f"node {name} {found['fault']}")


def last_line(error: Exception) -> str:
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
