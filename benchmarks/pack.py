"""Put what benchmarks/gpu.py needs on a machine without a network into one folder, whole or in parts.

    python benchmarks/pack.py OUT --url FOLDER_OR_URL     # the sequence ni_seq_c1 with SmolLM2
    python benchmarks/pack.py OUT --part-size 60M         # in parts of 60 MiB; tasks from where published
    python benchmarks/pack.py OUT --tiny                  # for a trial: the tiny model, no tasks

Packed: source and settings, the base model as the stage of that name makes it, all rows of the sequence's
tasks, and wheels of the packages that a machine with torch and transformers may lack. There,

    python OUT/unpack.py FOLDER && python FOLDER/benchmarks/gpu.py

checks every part's sha256 and every member's path, and runs. The wheels go into a folder of the copy alone,
and are used only for packages that the machine does not have.
"""

import argparse
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from importlib.metadata import requires, version
from pathlib import Path

from common import HERE, REPOSITORY, base_folder, code, compose
from gpu_run import tasks_for
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sapo.artifacts.base_model import read_base
from sapo.artifacts.task import save_task
from sapo.runtime.errors import DataError
from sapo.runtime.files import sha256_file
from sapo.runtime.outputs import output_folder

# What gpu.py and the stages import, beside what comes with these
NEEDED = ["accelerate", "filelock", "hydra-core", "jinja2", "peft", "psutil", "pydantic", "rouge-score"]
NEEDED += ["ruamel.yaml", "tqdm"]
THERE = ["torch", "transformers", "numpy", "tokenizers", "safetensors", "huggingface-hub"]
PYTHONS = ["3.11", "3.12", "3.13"]
PLATFORMS = ["manylinux_2_28", "manylinux_2_17", "manylinux2014"]
SOURCE = ["src", "conf", "benchmarks", "LICENSE", ":!benchmarks/results"]
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
ARCHIVE = "sapo-gpu.tar.xz"
COMMAND = "python unpack.py sapo-gpu && python sapo-gpu/benchmarks/gpu.py"
SEQUENCE = "ni_seq_c1"  # gpu.py's own default


def options() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    url = os.environ.get("SAPO_BENCHMARKS_URL")
    parser.add_argument("--url", default=url, help="folder or URL that holds SUPERNI/ and TRACE/")
    parser.add_argument("--sequence", default=SEQUENCE, help="of conf/sequence/; default: %(default)s")
    about = "most bytes of a file; default: one file"
    parser.add_argument("--part-size", type=size, default=sys.maxsize, metavar="60M", help=about)
    about = "packages that the machine has, which are left out with what only they need; default: %(default)s"
    parser.add_argument("--there", nargs="*", default=THERE, metavar="NAME", help=about)
    about = "versions of Python that the wheels are for; default: %(default)s"
    parser.add_argument("--python", nargs="+", default=PYTHONS, metavar="3.N", help=about)
    parser.add_argument("--tiny", action="store_true", help="the tiny model and no tasks")
    parser.add_argument("-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    return parser


def main() -> None:
    try:
        pack(options().parse_args())
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")


def pack(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    if out.exists():
        raise DataError(f"{out} is there already: name a new folder")
    words = [f"--sequence {arguments.sequence}"] if arguments.sequence != SEQUENCE else []
    command = " ".join([COMMAND, *words, *(f"-S {shlex.quote(one)}" for one in arguments.overrides)])
    with tempfile.TemporaryDirectory(prefix="pack-") as name, output_folder(out) as made:
        copy = Path(name)
        copy_source(copy)
        copy_inputs(arguments, copy / "benchmarks/.work")
        collect_wheels(copy / "wheels", missing(NEEDED, arguments.there), arguments.python)
        write_parts(copy, made, arguments.part_size)
        parts = sorted(made.iterdir())
        total = sum(part.stat().st_size for part in parts)
        sums = "".join(f"{sha256_file(part)}  {part.name}\n" for part in parts)
        (made / "SHA256SUMS").write_text(sums, encoding="utf-8")
        shutil.copy(HERE / "unpack.py", made)
        (made / "README.md").write_text(
            f"What benchmarks/gpu.py needs, of commit {code()}. Needs Python {' or '.join(arguments.python)} "
            f"with {', '.join(arguments.there)} and pip; no network. In this folder:\n\n    {command}\n",
            encoding="utf-8",
        )
    print(f"{out}: {len(parts)} files, {total / (1 << 20):.1f} MiB. There, in that folder:\n    {command}")


def size(text: str) -> int:
    """Bytes, from a number with K, M or G (powers of 1024) or nothing."""
    found = re.fullmatch(r"([1-9]\d*)([KMG]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 60M")
    return int(found[1]) * UNITS[found[2]]


def copy_source(copy: Path) -> None:
    """The tracked files as they are now, and which commit they are of."""
    command = ["git", "ls-files", "-z", "--", *SOURCE]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"packing needs a Git clone: {done.stderr.strip()}")
    for path in filter(None, done.stdout.split("\0")):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, copy / path)
    (copy / "benchmarks/.work").mkdir()
    (copy / "benchmarks/.work/code").write_text(code() + "\n", encoding="utf-8")


def copy_inputs(arguments: argparse.Namespace, work: Path) -> None:
    """The base model, and the rows that the sequence's recipe would use."""
    chosen = ["model=tiny_llama"] if arguments.tiny else []
    params = compose([f"sequence={arguments.sequence}", *chosen, *arguments.overrides])
    model = base_folder(params)
    if read_base(model).source not in ("wheel", "random"):
        raise DataError(
            f"model={params.model.name}: its weights lie elsewhere, only its reference would be packed"
        )
    shutil.copytree(model, work / "models" / model.name)
    if not arguments.tiny:
        rows = max(params.data.train_rows, params.data.test_rows)
        for task in tasks_for(arguments, params.sequence.evaluated, rows):
            save_task(work / "tasks" / task.name, task)


def missing(needed: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """Name -> version, here, of the packages and all that they need, but `there` and what only these need."""
    found: dict[str, str] = {}
    seen, todo = set(map(canonicalize_name, there)), list(needed)
    while todo:
        name = canonicalize_name(todo.pop())
        if name in seen:
            continue
        seen.add(name)
        found[name] = version(name)
        wanted = map(Requirement, requires(name) or [])
        todo += [one.name for one in wanted if not one.marker or one.marker.evaluate({"extra": ""})]
    return found


def collect_wheels(folder: Path, packages: dict[str, str], pythons: Iterable[str]) -> None:
    """Wheels of the packages, built where there is only source, and their pins.

    Compiled ones for every Python in `pythons` on Linux with this machine's kind of processor.
    """
    pins = [f"{name}=={of}" for name, of in sorted(packages.items())]
    folder.mkdir()
    if pins:
        pip("wheel", "--wheel-dir", str(folder), *pins)
    here = "{}.{}".format(*sys.version_info)
    compiled = {
        canonicalize_name(path.name.split("-")[0]) for path in folder.glob("*.whl") if is_bound(path.name)
    }
    again = [f"{name}=={packages[name]}" for name in sorted(compiled)]
    machine = os.uname().machine
    platforms = [part for kind in PLATFORMS for part in ("--platform", f"{kind}_{machine}")]
    for python in pythons:
        if again and python != here:
            options = [
                "--only-binary=:all:",
                "--python-version",
                python,
                "--implementation",
                "cp",
                *platforms,
            ]
            pip("download", "--dest", str(folder), *options, *again)
    (folder / "requirements.txt").write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")


def is_bound(wheel: str) -> bool:
    """Whether a wheel is for one version of Python alone."""
    _, abi, _ = wheel.removesuffix(".whl").split("-")[-3:]
    return abi not in ("none", "abi3")


def pip(command: str, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", *options],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise DataError(f"pip {command} failed (network? package index?):\n{done.stderr.strip()[-800:]}")


class Parts:
    """A stream into OUT/NAME.000, .001 ... of at most `most` bytes each."""

    def __init__(self, out: Path, most: int) -> None:
        self.out, self.most, self.count = out, most, 0
        self._next()

    def _next(self) -> None:
        self.part, self.room = (self.out / f"{ARCHIVE}.{self.count:03}").open("wb"), self.most
        self.count += 1

    def write(self, content: bytes) -> int:
        rest = memoryview(content)
        while rest:
            if not self.room:
                self.close()
                self._next()
            written = self.part.write(rest[: self.room])
            self.room -= written
            rest = rest[written:]
        return len(content)

    def close(self) -> None:
        self.part.close()


def write_parts(copy: Path, out: Path, most: int) -> None:
    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    parts = Parts(out, most)
    with lzma.open(parts, "wb", preset=1) as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        for path in sorted(copy.iterdir()):
            archive.add(path, path.name, filter=anonymous)
    parts.close()


if __name__ == "__main__":
    main()
