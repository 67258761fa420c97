"""The folder of downloads that all checkouts of a machine share, and who may write in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sapo.runtime.files import sha256_file


def cache_folder() -> Path:
    """Where downloads are kept between runs and shared by all checkouts: $SAPO_CACHE or ~/.cache/sapo."""
    return Path(
        os.environ.get("SAPO_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sapo"
    )


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process makes `path`, and keep others waiting; the lock ends with this process.

    The lock file stays. Another process may have made `path` meanwhile: look again inside the block.
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


def remembered_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hex: read again only when its inode, size or times have changed."""
    stat = path.stat()
    state = f"{stat.st_dev}-{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}"
    kept = cache_folder() / "sha256" / state
    with suppress(OSError):
        if len(digest := kept.read_text(encoding="ascii")) == 64:
            return digest
    digest = sha256_file(path)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(digest, encoding="ascii")
    return digest
