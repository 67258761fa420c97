"""What every stage script has around its work: its arguments, quiet libraries, one clear line for an error."""

import errno
import inspect
import logging
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import psutil

from sapo import parallel
from sapo.files import DataError
from sapo.wheels import cache_folder

LIBRARIES = ("torch", "transformers", "peft", "datasets", "rouge-score")


def run(work: Callable[..., None]) -> None:
    """Call `work` with the command line's arguments; end with exit status 1 and one message on unusable input or a full disk."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("sapo").setLevel(logging.INFO if parallel.is_main() else logging.ERROR)
    try:
        work(*sys.argv[1:])
        parallel.leave()
    except DataError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error}{what_to_do(error)}")
    except TypeError:
        if len(sys.argv) - 1 != len(inspect.signature(work).parameters):
            sys.exit(f"usage: python {sys.argv[0]} {' '.join(inspect.signature(work).parameters).upper()}")
        raise
    if parallel.is_main():
        print(
            f"{' '.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])}: {time.time() - psutil.Process().create_time():.1f} s",
            flush=True,
        )


def what_to_do(error: OSError) -> str:
    """Advice on a storage that is full or cannot be written; empty for other errors."""
    in_cache = error.filename and Path(error.filename).is_relative_to(cache_folder())
    elsewhere = ", or set SAPO_CACHE to a folder elsewhere," if in_cache else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f": free space there{elsewhere} and run the same command again; nothing half-written was kept"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f": make it writable{elsewhere} and run the same command again"
    return ""


def versions() -> dict[str, str]:
    """The versions of the libraries that a number depends on, to be recorded beside it."""
    return {"python": "{}.{}".format(*sys.version_info)} | {name: version(name) for name in LIBRARIES}
