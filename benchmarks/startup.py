"""How long a stage takes from its command to the first batch that enters the model, the weights read.

    python benchmarks/startup.py --repeats 5          # after a run, in the repository's top folder

Runs the stage scripts that load a model on what the run has left, each in a process of its own that ends at
its first batch, so nothing is written. Prints seconds: median, least and most. The peer is a process that
only imports torch.
"""

import argparse
import os
import runpy
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

import psutil


def stages() -> dict[str, list[str]]:
    """The stages of the last task, whose model has the most behind it."""
    from dvc.utils.serialize import load_yaml

    last = load_yaml("params.yaml")["sequence"]["last"]
    return {name: [f"src/{name}.py", last] for name in ("select_prompt", "train", "evaluate")}


def end_at_first_batch() -> None:
    """Print the seconds since this process was started when the first module is called, and end."""

    def enter(*_: object) -> None:
        print(f"first batch after {time.time() - psutil.Process().create_time():.2f}", flush=True)
        os._exit(0)

    def watch() -> None:
        while not hasattr(sys.modules.get("torch.nn.modules.module"), "register_module_forward_pre_hook"):
            time.sleep(0.02)
        sys.modules["torch.nn.modules.module"].register_module_forward_pre_hook(enter)

    threading.Thread(target=watch, daemon=True).start()


def seconds(command: list[str]) -> float:
    """Of one process, to its first batch."""
    done = subprocess.run([sys.executable, __file__, "--child", *command], capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("first batch after")]
    if not found:
        sys.exit(f"{' '.join(command)} has met no batch:\n{done.stdout}{done.stderr}")
    return float(found[0].split()[-1])


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        sys.argv = sys.argv[2:]
        sys.path[0] = str(Path(sys.argv[0]).parent)
        end_at_first_batch()
        runpy.run_path(sys.argv[0], run_name="__main__")
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    for name, command in stages().items():
        found = [seconds(command) for _ in range(repeats)]
        print(f"{name:14} {median(found):5.2f} s ({min(found):.2f} to {max(found):.2f})", flush=True)
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        found.append(time.perf_counter() - start)
    print(f"{'import torch':14} {median(found):5.2f} s ({min(found):.2f} to {max(found):.2f})")


if __name__ == "__main__":
    main()
