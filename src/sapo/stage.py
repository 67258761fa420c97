"""What every stage script has around its work: its arguments, quiet libraries, one clear line for an error."""

import inspect
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version

import psutil

from sapo import parallel
from sapo.files import DataError

LIBRARIES = ("torch", "transformers", "peft", "datasets", "rouge-score")


def run(work: Callable[..., None]) -> None:
    """Call `work` with the command line's arguments; end with exit status 1 and one line on unusable input or a full disk.

    The environment variable SAPO_TRACEBACK=1 shows where in the code that was, too.
    """
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
        sys.exit(f"error: {one_line(str(error))}")
    except TypeError:
        if len(sys.argv) - 1 != len(inspect.signature(work).parameters):
            sys.exit(f"usage: python {sys.argv[0]} {' '.join(inspect.signature(work).parameters).upper()}")
        raise
    if parallel.is_main():
        print(
            f"{' '.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])}: {time.time() - psutil.Process().create_time():.1f} s",
            flush=True,
        )


def one_line(text: str) -> str:
    """The text's lines behind one another, with a semicolon where no punctuation ends one; other control characters escaped."""
    line = re.sub(r"([:;,.]?)\s*[\r\n]\s*", lambda ending: f"{ending[1] or ';'} ", text.strip())
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)


def versions() -> dict[str, str]:
    """The versions of the libraries that a number depends on, to be recorded beside it."""
    return {"python": "{}.{}".format(*sys.version_info)} | {name: version(name) for name in LIBRARIES}
