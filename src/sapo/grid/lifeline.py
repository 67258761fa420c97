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

import psutil

from sapo.runtime.outputs import write_text
from sapo.runtime.watchdog import PAUSE, alive

BEAT = 2.0  # seconds between two signs of life of a driver
SILENCE = 60.0  # seconds without one after which it is taken for dead
SIGN = "alive"  # the file of these signs, in the grid's folder

started: list[subprocess.Popen[str]] = []  # by this process: killed when it has to end


class Heart:
    """The driver's: `beat` is called often, and writes seldom."""

    def __init__(self, folder: Path) -> None:
        self.path, self.last, self.count = folder / SIGN, 0.0, 0

    def beat(self) -> None:
        if time.monotonic() - self.last > BEAT:
            self.last, self.count = time.monotonic(), self.count + 1
            write_text(self.path, f"{os.getpid()} {self.count}\n")


def step_back() -> None:
    """Go on as a child of this process, which only waits.

    Ray kills the children of a worker that it ends, and not theirs: DVC would work on.
    """
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status < 0:
            os.kill(os.getpid(), -status)
        os._exit(status)


def end_with_giver(folder: Path) -> None:
    """From now on, kill all that was started here, and end, when nobody waits for it any more.

    That is when the input closes, SIGTERM comes, the node's Ray ends, or the driver gives no sign of life in
    the folder.
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
        seen, since = "", time.monotonic()
        while time.monotonic() - since < SILENCE:
            now = sign(folder)
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(BEAT)
        end()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which closes the input
    for target in (watch_input, watch_node, watch_driver):
        threading.Thread(target=target, daemon=True).start()


def sign(folder: Path) -> str:
    with suppress(OSError):
        return (folder / SIGN).read_text(encoding="utf-8")
    return ""


def end(*_: object) -> None:
    for process in started:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)  # not as one that failed: a driver that lives has it done again
