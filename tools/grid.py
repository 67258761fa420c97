"""Methods x models x sequences x seeds on Ray: each cell a DVC experiment, on one machine or many.

usage: python tools/grid.py [study] -S method=lora_inc,lora_inc_sapo -S seed=1,2,3 [--gpus 1] [--cpus 2]
           [--dry] [--address HOST:PORT] [--name PREFIX] [--folder FOLDER] [--keep] [--allow-dirty]
           [--remote NAME] [--wait SECONDS] [--slots N]

The options -S are those of `dvc exp run --queue`. Finished cells are experiments (`dvc exp show`,
`dvc exp apply`, tools/compare.py). Stopped or killed, the same command goes on. See docs/grid.md.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from sapo.grid.command import Options, grid
from sapo.runtime.command import one_line, with_advice
from sapo.runtime.errors import DataError


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a grid of experiments on Ray.")
    parser.add_argument(
        "what", nargs="?", choices=["study"], help="the study of each cell, its trainings side by side"
    )
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        default=[],
        metavar="KEY=VALUE,...",
        help="an axis, or a setting",
    )
    parser.add_argument(
        "--address", help="of a running Ray, or `auto`; if not given, Ray starts on this machine"
    )
    parser.add_argument("--cpus", type=at_least(1), default=1, help="cores of a cell, and threads (1)")
    parser.add_argument("--gpus", type=at_least(0), default=0, help="GPUs of a cell (0)")
    parser.add_argument("--dry", action="store_true", help="list cells, stages and estimates; run nothing")
    parser.add_argument(
        "--slots", type=at_least(1), help="of --dry: cells at a time (this machine's cores by --cpus)"
    )
    parser.add_argument("--name", default="", help="the names of the experiments begin so")
    parser.add_argument(
        "--folder", type=Path, default=Path(".grid"), help="clones and logs; every node sees it (.grid)"
    )
    parser.add_argument(
        "--remote", help="a DVC remote that results go to and come from, where nodes share no cache"
    )
    parser.add_argument("--keep", action="store_true", help="leave the clones of finished cells")
    parser.add_argument("--allow-dirty", action="store_true", help="take uncommitted changes along")
    parser.add_argument(
        "--wait", type=at_least(0), default=60, help="seconds for a node with so many cores and GPUs (60)"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    options = Options(
        overrides=arguments.set_param,
        study=arguments.what == "study",
        **{name: getattr(arguments, name) for name in Options.FROM_COMMAND_LINE},
    )
    try:
        status = grid(options)
    except (DataError, OSError) as error:
        sys.exit(f"error: {one_line(with_advice(error))}")
    except KeyboardInterrupt:
        print("stopped: what it had started ends; the same command goes on", file=sys.stderr)
        status = 130
    sys.stdout.flush()
    os._exit(status)  # Ray's threads may outlive it


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def at_least(least: int) -> Callable[[str], int]:
    """What reads a number of the command line, and refuses a smaller one."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return int(text)

    return number


if __name__ == "__main__":
    main()
