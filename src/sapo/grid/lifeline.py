"""Work ends with the one who gave it: its driver, the worker that started it, and the Ray of its node.

Ray itself ends the workers of a dead driver or node late, or not while they wait. Work that went on would be
done a second time, at the same place.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil

from sapo.runtime.watchdog import PAUSE, alive

BEAT = 2.0  # seconds between two signs of life of a driver
SILENCE = 60.0  # seconds without one after which it is taken for dead
SIGN = "alive-"  # how the file of these signs is called, in the grid's folder; one for each driver

started: list[subprocess.Popen[str]] = []  # by this process: killed when it has to end


class Heart:
    """The driver's: while the block runs, the time of a file tells that it lives. That needs no disk."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / f"{SIGN}{uuid4().hex}"
        self.over = threading.Event()

    def __enter__(self) -> "Heart":
        self.folder.mkdir(parents=True, exist_ok=True)
        for other in self.folder.glob(f"{SIGN}*"):
            other.unlink(missing_ok=True)  # of a driver that was killed: what still works for it ends
        self.path.touch()
        threading.Thread(target=self.beat, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.path.unlink(missing_ok=True)

    def beat(self) -> None:
        while not self.over.wait(BEAT):
            with suppress(OSError):
                os.utime(self.path)


def go_on_as_child() -> None:
    """Go on as a child of this process, which only waits.

    Ray kills the children of a worker that it ends, and not theirs: DVC would work on.
    """
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status < 0:
            os.kill(os.getpid(), -status)
        os._exit(status)


def end_with_giver(path: Path) -> None:
    """From now on, kill all that was started here, and end, when nobody waits for it any more.

    That is when the input closes, SIGTERM comes, the node's Ray ends, or the file of the driver's signs of
    life is gone, or as it was for SILENCE.
    """

    def watch_input() -> None:
        sys.stdin.read()
        end()

    def watch_node() -> None:
        raylet = next((process for process in psutil.Process().parents() if process.name() == "raylet"), None)
        while raylet is None or alive(raylet):
            time.sleep(PAUSE)
        end()

    def watch_driver() -> None:
        seen, silent = 0, 0.0
        while silent < SILENCE:  # by looks, not by the clock: a network's file system may block one for long
            time.sleep(BEAT)
            try:
                now = sign(path)
            except FileNotFoundError:
                break
            except OSError:
                continue
            seen, silent = now, silent + BEAT if now == seen else 0.0
        end()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which closes the input
    for target in (watch_input, watch_node, watch_driver):
        threading.Thread(target=target, daemon=True).start()


def sign(path: Path) -> int:
    """The time of the last sign of life. The file is opened: NFS would answer `stat` from memory."""
    with path.open() as file:
        return os.fstat(file.fileno()).st_mtime_ns


def end(*_: object) -> None:
    for process in started:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)  # not as one that failed: a driver that lives has it done again
