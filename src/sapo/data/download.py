"""Files known by their Git blob id: fetched from where fsspec reads, verified, kept in the shared cache."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
from fsspec.callbacks import Callback
from fsspec.core import url_to_fs

from sapo.data.catalog import Blob
from sapo.runtime.cache import alone, cache_folder
from sapo.runtime.errors import DataError
from sapo.runtime.files import git_blob_id
from sapo.runtime.keys import masked
from sapo.runtime.network import certificates, proxies, proxy_for
from sapo.runtime.progress import progress

AT_ONCE = 8  # files fetched at the same time
TRIES = 3
LARGEST = 1 << 30  # bytes of a file whose size the catalogue does not know
PAUSE = 1.0  # seconds before the second try; doubled for each further one
CONNECT_TIMEOUT, READ_TIMEOUT = 20.0, 60.0  # seconds without a connection, without a byte


def fetch(base: str, blobs: Sequence[Blob]) -> dict[str, Path]:
    """The local path of every blob, by its path; what the cache lacks is downloaded, several at once.

    base: a URL or a folder. Raises DataError that names the file when one cannot be fetched or is not the one
    of its id; the cache then holds nothing of it.
    """
    kept = {blob.path: cache_folder() / "git-blobs" / blob.id for blob in blobs}
    if all(_is_whole(kept[blob.path], blob) for blob in blobs):
        return kept
    folder = cache_folder() / "git-blobs"
    try:
        with alone(folder):
            _fetch_missing(base, blobs, kept, folder)
    except OSError as error:
        raise _cannot_store(blobs[0], folder, error) from error
    return kept


def _fetch_missing(base: str, blobs: Sequence[Blob], kept: dict[str, Path], folder: Path) -> None:
    for left in folder.glob(".partial-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    wanted = [blob for blob in blobs if not _is_whole(kept[blob.path], blob)]
    for blob in wanted:
        if kept[blob.path].is_file():
            print(f"{kept[blob.path]} is damaged: fetching {blob.path} again", flush=True)
            kept[blob.path].unlink()
    known = sum(blob.size or 0 for blob in wanted)
    total = known if all(blob.size is not None for blob in wanted) else None
    with (
        progress(f"fetching {len(wanted)} files", total, "B") as bar,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        running = [pool.submit(_fetch_one, base, blob, kept[blob.path], bar) for blob in wanted]
        try:
            for one in running:
                one.result()
        finally:
            for one in running:
                one.cancel()  # after an error: what has not begun need not


def _is_whole(path: Path, blob: Blob) -> bool:
    return path.is_file() and git_blob_id(path) == blob.id


class _Progress(Callback):  # type: ignore[misc]  # fsspec has no types
    """Counts a file's bytes on the common bar, and takes them back when the file must be fetched again.

    Ends a download (DataError) that brings more bytes than the file has.
    """

    def __init__(self, bar: Any, url: str, most: int) -> None:
        super().__init__()
        self.bar, self.url, self.most, self.done = bar, url, most, 0

    def relative_update(self, inc: int = 1) -> None:
        self.done += inc
        self.bar.update(inc)
        if self.done > self.most:
            raise DataError(
                f"{self.url} is longer than the {self.most} bytes that were expected: it was not kept"
            )

    def absolute_update(self, value: int) -> None:
        self.relative_update(value - self.done)


def _fetch_one(base: str, blob: Blob, kept: Path, bar: Any) -> None:
    url = f"{base.rstrip('/')}/{blob.path}"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=kept.parent) as scratch:
            partial = Path(scratch) / "file"
            _download(url, partial, _Progress(bar, url, LARGEST if blob.size is None else blob.size))
            if not partial.is_file():
                raise DataError(f"{url} is not a file")
            found = git_blob_id(partial)
            if found != blob.id:
                raise DataError(
                    f"{url} is not the file that the catalogue knows as {blob.path}: "
                    f"its Git blob id is {found}, expected {blob.id}; it was not kept"
                )
            os.replace(partial, kept)
    except OSError as error:
        raise _cannot_store(blob, kept.parent, error) from error


def _cannot_store(blob: Blob, folder: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot store {blob.path} under {folder}: {error}: free space there or make it writable, "
        "or set SAPO_CACHE to a folder elsewhere, and run the same command again"
    )


def _download(url: str, target: Path, counter: _Progress) -> None:
    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
        proxy = proxy_for(url, ("http_proxy", "https_proxy"))  # aiohttp knows no ALL_PROXY
        # Of the environment it reads netrc, too, but knows no local addresses and no networks in NO_PROXY
        options["client_kwargs"] = {"timeout": timeout, "trust_env": proxy is not None or not proxies()}
        if proxy:
            options["proxy"] = proxy
        if url.startswith("https:"):
            certificates()
    for attempt in range(1, TRIES + 1):
        try:
            filesystem, path = url_to_fs(os.path.expanduser(url), **options)
            filesystem.get_file(path, str(target), callback=counter)
            return
        except (
            ImportError,
            ValueError,
        ) as error:  # a protocol that fsspec does not know, or whose package is missing
            raise DataError(f"data.url: {url} cannot be read: {masked(str(error))}") from error
        except (OSError, aiohttp.ClientError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise  # the cache's fault, not the network's
            counter.absolute_update(0)
            hopeless = isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError)
            if hopeless or attempt == TRIES:
                why = (
                    "it is not there"
                    if isinstance(error, FileNotFoundError)
                    else masked(str(error)) or type(error).__name__
                )
                raise DataError(
                    f"cannot fetch {url}: {why}. "
                    "Check the network, or set data.url to a folder or URL that holds the files"
                ) from error
            print(
                f"{url}: {masked(str(error)) or type(error).__name__}; trying again ({attempt} of {TRIES})",
                flush=True,
            )
            time.sleep(PAUSE * 2 ** (attempt - 1))
