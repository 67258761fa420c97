"""On a GPU: the same numbers as on a CPU? How near to the hardware's limit? How long for a whole sequence?

    python benchmarks/gpu.py                       # all three parts, at most 4 minutes each
    python benchmarks/gpu.py agree shapes          # some of them
    python benchmarks/gpu.py --tiny --device cpu   # a trial of all parts without a GPU: tiny models and data

`agree`: losses of candidates, the choice and greedy answers, on this device and on its CPU, in float32.
`shapes`: a model of Qwen3-8B's shape with random weights in bfloat16: scoring, training and answering, in
tokens a second and as a share of the matrix-multiplication peak measured in the same run, beside Trainer and
TRL. `sequence`: the stages themselves, task by task, and how long all rows and epochs would take.

A part stops when its minutes are up. Its result is written after each step and says how many were done;
progress bars and warnings go into a log beside it. DVC is not needed, and no network with what
benchmarks/pack.py packs.
"""

import argparse
import os
import platform
import sys
import traceback
from contextlib import redirect_stderr

import torch
from common import machine
from gpu_agree import agree
from gpu_run import Run, TimeIsUp, time_limit
from gpu_sequence import sequence
from gpu_shapes import shapes

from sapo.artifacts.versions import versions
from sapo.runtime.errors import DataError

PARTS = {"agree": agree, "shapes": shapes, "sequence": sequence}


def options() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--tiny", action="store_true", help="tiny models and made-up rows, for a trial")
    about = "of each part, loading included; default: %(default)s"
    parser.add_argument("--minutes", type=float, default=4.0, help=about)
    parser.add_argument("--device", choices=["cuda", "cpu"], help="default: a GPU where there is one")
    parser.add_argument("--out", help="folder of the results; default: benchmarks/results")
    about = "folder or URL that holds SUPERNI/; default: the packed tasks, else where they are published"
    parser.add_argument("--url", default=os.environ.get("SAPO_BENCHMARKS_URL"), help=about)
    parser.add_argument("--sequence", help="of conf/sequence/; default: ni_seq_c1")
    about = "training and test rows of a task in `sequence`; default: %(default)s"
    parser.add_argument("--rows", type=int, default=200, help=about)
    parser.add_argument("--epochs", type=int, default=2, help="in `sequence`; default: %(default)s")
    about = "rows of a task in `agree`; default: %(default)s"
    parser.add_argument("--agree-rows", type=int, default=24, help=about)
    parser.add_argument("-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    return parser


def main() -> None:
    parser = options()
    arguments = parser.parse_args()
    if odd := [name for name in arguments.parts if name not in PARTS]:
        parser.error(f"no part is called {', '.join(odd)}: choose from {', '.join(PARTS)}")
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Trainer too would take a GPU; read at CUDA's first use
    elif arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: --device cuda: this torch finds no GPU")
    print(about_machine(), flush=True)
    failed = [name for name in arguments.parts or PARTS if not run_part(name, arguments)]
    if failed:
        sys.exit(f"error: failed, wholly or in part: {', '.join(failed)}")


def run_part(name: str, arguments: argparse.Namespace) -> bool:
    """Run one part within its minutes; whether all that it came to went well."""
    print(f"\n{name}, at most {arguments.minutes:g} min", flush=True)
    run = Run(name, arguments)
    log = run.path.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            time_limit(60 * arguments.minutes),
            log.open("w", encoding="utf-8") as bars,
            redirect_stderr(bars),
        ):
            PARTS[name](arguments, run)
    except TimeIsUp:
        run.time_is_up = True
    except DataError as error:
        run.failed = True
        print(f"error: {name}: {error}", file=sys.stderr)
    except Exception:  # of any library: the other parts can still say something
        run.failed = True
        traceback.print_exc()
    run.close()
    return not run.failed


def about_machine() -> str:
    found, here = versions(), machine()
    libraries = ", ".join(f"{name} {found[name]}" for name in ("torch", "transformers", "peft"))
    where = f"{here['cpu']}, {here['cores']} cores, {here['threads']} threads"
    if here["accelerator"]:
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        gpu = f"{here['accelerator']}, {memory:.0f} GiB, driver {here['driver']}, CUDA {here['cuda']}"
    else:
        gpu = "no GPU"
    return f"Python {platform.python_version()}, {libraries}\n{gpu}; {where}"


if __name__ == "__main__":
    main()
