"""What every stage script has around its work: arguments, watchdog, quiet libraries, one-line errors."""

import argparse
import errno
import inspect
import logging
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Collection
from pathlib import Path

import psutil

from sapo.runtime import processes
from sapo.runtime.cache import cache_folder
from sapo.runtime.errors import (
    ArtifactError,
    DataError,
    MixedRunsError,
    OtherRunError,
    OtherStudyError,
)
from sapo.runtime.keys import forget_keys
from sapo.runtime.watchdog import end_with_starters

ADVICE: dict[type[Exception], str] = {
    ArtifactError: "run the stage that writes it (`dvc repro`), or fetch it (`dvc pull`)",
    OtherRunError: "run `dvc repro`",
    MixedRunsError: "`dvc repro -f` makes all of them anew",
    OtherStudyError: "run `dvc repro study/dvc.yaml`",
}


def run(work: Callable[..., None], keys: Collection[str] = ()) -> None:
    """Call `work` with the command line's arguments.

    Unusable input or a full disk ends it with exit status 1 and one line. `keys`: the environment variables
    with keys or tokens that the work needs; others are taken away before it begins. The environment variable
    SAPO_TRACEBACK=1 shows where in the code an error was, too.
    """
    end_with_starters()  # first: what a stage imports takes seconds in which DVC may be killed
    forget_keys(keys)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    warnings.simplefilter("ignore", FutureWarning)  # what libraries tell those who develop with them
    logging.basicConfig(format="%(message)s")
    parser = argparse.ArgumentParser(description=inspect.getdoc(work))
    for name in inspect.signature(work).parameters:
        parser.add_argument(name, metavar=name.upper())
    arguments = vars(parser.parse_args())
    try:
        logging.getLogger("sapo").setLevel(logging.INFO if processes.is_main() else logging.ERROR)
        work(**arguments)
        processes.leave()
    except (DataError, OSError) as error:
        if os.environ.get("SAPO_TRACEBACK", "") not in ("", "0"):
            traceback.print_exc()
        sys.exit(f"error: {one_line(with_advice(error))}")
    if processes.is_main():
        seconds = time.time() - psutil.Process().create_time()
        print(f"{' '.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])}: {seconds:.1f} s", flush=True)


def with_advice(error: Exception) -> str:
    """The error's text and what to do about it, where the error itself cannot know that."""
    if isinstance(error, OSError):
        return f"{error}{about_storage(error)}"
    if isinstance(error, ArtifactError):
        advice = next(ADVICE[kind] for kind in type(error).__mro__ if kind in ADVICE)
        again = f"`dvc repro -f {error.stage}` makes it anew" if error.stage else advice
        return f"{error}; {again}"
    return str(error)


def about_storage(error: OSError) -> str:
    """Advice on a storage that is full or cannot be written; empty for other errors."""
    in_cache = error.filename and Path(error.filename).is_relative_to(cache_folder())
    elsewhere = ", or set SAPO_CACHE to a folder elsewhere," if in_cache else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f": free space there{elsewhere} and run the same command again; nothing half-written was kept"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f": make it writable{elsewhere} and run the same command again"
    return ""


def one_line(text: str) -> str:
    """The text's lines joined, with a semicolon where no punctuation ends one; control characters escaped."""
    line = re.sub(r"([:;,.]?)\s*[\r\n]\s*", lambda ending: f"{ending[1] or ';'} ", text.strip())
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)
