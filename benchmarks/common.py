"""What the benchmarks share: their options, the model, tasks and rows they run on, the record of a run."""

import argparse
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
sys.path.append(str(Path(__file__).resolve().parent / ".work/site"))  # last: it only fills what is missing
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import hydra
import psutil
import torch
import transformers
from omegaconf import OmegaConf
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sapo.artifacts.task import Task
from sapo.artifacts.versions import versions
from sapo.config import Params
from sapo.models.load import load_model, load_tokenizer
from sapo.models.make import make_base
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.runtime.cache import alone
from sapo.runtime.files import sha256_json
from sapo.runtime.outputs import output_folder, write_json

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
WORK = HERE / ".work"  # what the benchmarks make for themselves, or was packed for them; not in Git
transformers.utils.logging.set_verbosity_error()
warnings.simplefilter("ignore", FutureWarning)  # of the libraries, about their own names
transformers.utils.logging.disable_progress_bar()


def options(doc: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes; `defaults` by the options' names."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", help="catalogued tasks (default: %(default)s)")
    parser.add_argument("--rows", type=int, help="rows of each task (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed runs of each side (default: %(default)s)"
    )
    url = os.environ.get("SAPO_BENCHMARKS_URL")
    parser.add_argument(
        "--url", default=url, help="folder or URL that holds SUPERNI/ and TRACE/ (default: where published)"
    )
    about = "any setting of conf/, as for `dvc exp run`; may be repeated"
    parser.add_argument("-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=about)
    parser.add_argument("--name", help="the result is results/NAME.json (default: %(default)s)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.set_defaults(**defaults)
    return parser


def once(overrides: Sequence[str]) -> list[str]:
    """KEY=VALUE (or ~KEY) with each key once: the last one."""
    return list({item.partition("=")[0]: item for item in overrides}.values())


def compose(overrides: Sequence[str], *defaults: str) -> Params:
    """The settings of conf/ with `defaults`, then `overrides` (KEY=VALUE)."""
    with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base=None):
        composed = hydra.compose("config", once([*defaults, *overrides]))
    return Params.model_validate(OmegaConf.to_container(composed, resolve=True))


@dataclass(frozen=True)
class Setup:
    """The settings, and what they make: the base model's folder, its tokenizer and prompt encoder."""

    params: Params
    folder: Path
    tokenizer: PreTrainedTokenizerBase
    encoder: PromptEncoder

    @property
    def pad(self) -> int:
        return self.encoder.end_of_turn

    def model(self) -> PreTrainedModel:
        """The base model, loaded anew."""
        model = load_model(self.folder, self.params.model.dtype)
        # Out of the mapped file, whose pages would else count as the first run's memory
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        return model

    def rows(
        self, task: Task, instruction: str | None = None, split: str = "train", answers: bool | None = None
    ) -> list[Encoded]:
        """The rows of a split as tokens, with their answers or not; by default training rows have them."""
        text = task.instruction if instruction is None else instruction
        return self.encoder.encode(
            text,
            task.suffix,
            task.language,
            getattr(task, split),
            answers=split == "train" if answers is None else answers,
        )


def set_up(overrides: Sequence[str]) -> Setup:
    """The base model and its encoder.

    Recipe `small`, prompts of up to 1536 tokens, no dropout, unless `overrides` differ.
    """
    params = compose(overrides, "recipe=small", "prompt.max_tokens=1536", "lora.dropout=0.0")
    folder = base_folder(params)
    tokenizer = load_tokenizer(folder)
    return Setup(
        params,
        folder,
        tokenizer,
        PromptEncoder(tokenizer, params.prompt.max_tokens, params.model.template_options),
    )


def base_folder(params: Params) -> Path:
    """The folder of the base model, as the stage of that name makes it; made once."""
    folder = WORK / "models" / f"{params.model.name}-{sha256_json(params.model.model_dump())[:12]}"
    with alone(folder):
        if not folder.is_dir():
            with output_folder(folder) as made:
                make_base(params.model, made, params.seed)
    return folder


def load_tasks(names: Sequence[str], url: str | None, rows: int) -> list[Task]:
    """Catalogued tasks with their first rows.

    Their files are fetched, verified and kept as the prepare stage does it.
    """
    from sapo.data.catalog_tasks import load_catalog_tasks  # its libraries for downloads may be missing

    return list(load_catalog_tasks(names, url, (rows, rows)))


def record(
    arguments: argparse.Namespace, params: Params, results: Sequence[Mapping[str, Any]], name: str = ""
) -> None:
    """Write results/NAME.json, and say so."""
    path = HERE / "results" / f"{name or arguments.name}.json"
    write_record(path, arguments, params, results)
    print(f"written to {path.relative_to(REPOSITORY)}")


def write_record(
    path: Path, arguments: argparse.Namespace, params: Params, results: Sequence[Mapping[str, Any]]
) -> None:
    """Write what ran where, with which settings, and every single figure."""
    kept_back = ("url", "child", "out")  # paths of this machine
    about = {
        "arguments": {key: value for key, value in vars(arguments).items() if key not in kept_back},
        "code": code(),
        "versions": versions()
        | {name: found for name in ("accelerate", "trl", "lm_eval") if (found := _version(name))},
        "machine": machine() | {"dtype": params.model.dtype},
        "settings": params.model_dump(
            include={"seed", "model", "data", "prompt", "selection", "lora", "train", "evaluate"}
        ),
        "results": results,
    }
    about["settings"]["data"].pop("url")
    write_json(path, about)


def code() -> str:
    """The commit, `-dirty` at its end where files differ from it. A packed copy has it in a file."""
    if (packed := WORK / "code").is_file():
        return packed.read_text(encoding="utf-8").strip()
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(describe, cwd=REPOSITORY, capture_output=True, text=True).stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """What times depend on: processor, cores, threads, memory, accelerator."""
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.is_file()
        else []
    )
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "driver": driver() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
    }


def driver() -> str | None:
    """The version of NVIDIA's driver, None where its tool is missing."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.split("\n")[0].strip()


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows under their keys, one column a key."""
    texts = [
        [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows
    ]
    lines = [list(rows[0]), *texts]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print()
    for line in lines:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))
    print()
