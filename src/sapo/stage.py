"""What every stage script has around its work: its arguments, quiet libraries, one clear line for an error."""

import inspect
import logging
import os
import sys
import time
from collections.abc import Callable, Collection
from importlib.metadata import version

import psutil

from sapo import parallel
from sapo.environment import forget_secrets
from sapo.files import DataError

LIBRARIES = ("torch", "transformers", "peft", "datasets", "rouge-score")


def run(work: Callable[..., None], secrets: Collection[str] = ()) -> None:
    """Call `work` with the command line's arguments; end with exit status 1 and one message on unusable input or a full disk.

    `secrets`: the environment variables with keys or tokens that the work needs; others are taken away before it begins.
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
        sys.exit(f"error: {error}")
    except TypeError:
        if len(sys.argv) - 1 != len(inspect.signature(work).parameters):
            sys.exit(f"usage: python {sys.argv[0]} {' '.join(inspect.signature(work).parameters).upper()}")
        raise
    if parallel.is_main():
        print(
            f"{' '.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])}: {time.time() - psutil.Process().create_time():.1f} s",
            flush=True,
        )


def versions() -> dict[str, str]:
    """The versions of the libraries that a number depends on, to be recorded beside it."""
    return {"python": "{}.{}".format(*sys.version_info)} | {name: version(name) for name in LIBRARIES}
