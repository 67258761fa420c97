"""The folder of downloads that all checkouts of a machine share, and who may write in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


def cache_folder() -> Path:
    """Where downloads are kept between runs and shared by all checkouts: $SAPO_CACHE or ~/.cache/sapo."""
    return Path(
        os.environ.get("SAPO_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sapo"
    )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process makes `path`, and keep others waiting; the lock ends with this process.

    The lock file stays. Whoever made `path` meanwhile leaves nothing to do: look again inside the
    block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that makes {path}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
