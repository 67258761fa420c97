"""A stage ends with what started it: an orphan of a killed DVC would write the next run's outputs."""

import os
import signal
import threading
import time

import psutil

PAUSE = 0.2  # seconds between two looks; a new `dvc repro` needs more than that to reach a stage


def starters() -> list[psutil.Process]:
    """The processes between this one and DVC, and DVC itself, the nearest one without DVC's mark on stages.

    A shell or `accelerate launch` may stand between. Empty where no DVC started this process.
    """
    chain: list[psutil.Process] = []
    process = psutil.Process()
    while (parent := process.parent()) and marked(process):
        chain.append(parent)
        process = parent
    return chain


def marked(process: psutil.Process) -> bool:
    """Whether the process was started with DVC's name of a stage in its environment."""
    try:
        return "DVC_STAGE" in process.environ()
    except psutil.Error:  # another user's, such as init, or gone
        return False


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def inherited(process: psutil.Process) -> bool:
    """Whether this is the system's own process, which takes over what has lost its parent."""
    if process.pid != 1 and process.name() not in ("systemd", "launchd"):
        return False
    try:
        return os.getpgid(process.pid) != os.getpgid(0)  # DVC itself may be a container's first process
    except OSError:
        return True


def end_with_starters() -> None:
    """From now on, kill this process as soon as one of its starters has ended, even if that was before."""
    chain = starters()
    if not chain:
        return

    def watch() -> None:
        while all(map(alive, chain)):
            time.sleep(PAUSE)
        os.kill(os.getpid(), signal.SIGKILL)  # no clean-up: DVC's next run may be at it already

    if inherited(chain[-1]):
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=watch, name="end_with_starters", daemon=True).start()
