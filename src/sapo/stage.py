"""What every stage script has around its work: its arguments, quiet libraries, one clear line for an error."""

import errno
import inspect
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Collection
from importlib.metadata import version
from pathlib import Path

import psutil

from sapo import parallel
from sapo.environment import forget_secrets
from sapo.files import DataError
from sapo.wheels import cache_folder

LIBRARIES = ("torch", "transformers", "peft", "datasets", "rouge-score")


def run(work: Callable[..., None], secrets: Collection[str] = ()) -> None:
    """Call `work` with the command line's arguments; end with exit status 1 and one line on unusable input or a full disk.

    `secrets`: the environment variables with keys or tokens that the work needs; others are taken away before it begins.
    The environment variable SAPO_TRACEBACK=1 shows where in the code an error was, too.
    """
    forget_secrets(secrets)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("sapo").setLevel(logging.INFO if parallel.is_main() else logging.ERROR)
    try:
        work(*sys.argv[1:])
        parallel.leave()
    except (DataError, OSError) as error:
        if os.environ.get("SAPO_TRACEBACK", "") not in ("", "0"):
            traceback.print_exc()
        advice = what_to_do(error) if isinstance(error, OSError) else ""
        sys.exit(f"error: {one_line(f'{error}{advice}')}")
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


def one_line(text: str) -> str:
    """The text's lines behind one another, with a semicolon where no punctuation ends one; other control characters escaped."""
    line = re.sub(r"([:;,.]?)\s*[\r\n]\s*", lambda ending: f"{ending[1] or ';'} ", text.strip())
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)


def versions() -> dict[str, str]:
    """The versions of the libraries that a number depends on, to be recorded beside it."""
    return {"python": "{}.{}".format(*sys.version_info)} | {name: version(name) for name in LIBRARIES}
