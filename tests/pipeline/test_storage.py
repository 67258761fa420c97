"""A full disk or a read-only folder: one clear line, exit status 1, nothing half-written; then a rerun works.

On file systems of their own, which only root can mount; a limit on the size of files does for others.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dvc.utils.hydra import compose_and_dump

REPOSITORY = Path(__file__).parents[2]
SETTINGS = [
    "model=tiny_llama",
    "data.train_rows=24",
    "data.test_rows=2",
    "prompt.max_tokens=900",
    "method=lora_inc",
]
# Stages, one after another in one process, with what a stage script has around its work.
CODE = """
import importlib, sys
sys.path.insert(0, {src!r})
from sapo.runtime.command import run
for command in sys.argv[1:]:
    script, *sys.argv[1:] = command.split()
    run(getattr(importlib.import_module(script), script.removesuffix("_prompt")))
"""


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system of some KiB on a new folder; all are gone in the end."""
    mounted: list[Path] = []

    def new(name: str, options: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield new
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def settle(folder: Path) -> Path:
    compose_and_dump(str(folder / "params.yaml"), str(REPOSITORY / "conf"), None, "config", "", SETTINGS)
    return folder


def stage(
    folder: Path, *command: str, cache: Path | None = None, limit: int | None = None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"SAPO_CACHE": str(cache)} if cache else {})
    return subprocess.run(
        [sys.executable, "-c", CODE.format(src=str(REPOSITORY / "src")), *command],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None,
    )


def fails_with_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1, done.stderr[-3000:]
    assert len(lines) == 1, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in lines[0], lines[0]


def test_a_full_disk_stops_a_stage_with_one_line_and_a_rerun_works(mount: Callable[..., Path]) -> None:
    folder = settle(mount("work", "size=64k"))
    fails_with_one_line(
        stage(folder, "base_model"), "No space left on device", "models/base", "free space there", "again"
    )
    assert not [path for path in folder.rglob("*") if "base" in path.name]
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
    done = stage(folder, "base_model", "prepare", "paraphrase reuters_r8", "select_prompt reuters_r8")
    assert done.returncode == 0, done.stderr[-3000:]

    for spare in (8, 24):  # KiB: too few for a checkpoint's weights, for its optimiser's state
        free = os.statvfs(folder)
        (folder / "filling").write_bytes(bytes(free.f_bavail * free.f_frsize - spare * 1024))
        fails_with_one_line(stage(folder, "train reuters_r8"), "No space left on device", "free space there")
        assert not (folder / "models/reuters_r8").exists()
        assert not list(folder.rglob("*.partial"))
        (folder / "filling").unlink()
    done = stage(folder, "train reuters_r8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "models/reuters_r8/adapter_model.safetensors").is_file()


def test_files_that_may_not_grow_stop_a_stage_as_a_full_disk_does(tmp_path: Path) -> None:
    folder = settle(tmp_path)
    fails_with_one_line(
        stage(folder, "base_model", limit=20_000), "File too large", "models/base", "free space there"
    )
    assert not (folder / "models/base").exists()
    assert stage(folder, "base_model").returncode == 0


def test_a_cache_that_cannot_be_written_is_named_with_what_to_do(
    mount: Callable[..., Path], tmp_path: Path
) -> None:
    cache = mount("cache", "size=1m,ro")
    folder = settle(tmp_path)
    done = stage(folder, "prepare", cache=cache)
    fails_with_one_line(
        done, "Read-only file system", str(cache), "set SAPO_CACHE to a folder elsewhere", "again"
    )
    assert not (folder / "data/tasks").exists()
    assert stage(folder, "prepare").returncode == 0


def test_a_full_cache_is_named_with_what_to_do(mount: Callable[..., Path], tmp_path: Path) -> None:
    cache = mount("cache", "size=256k")
    folder = settle(tmp_path)
    fails_with_one_line(
        stage(folder, "prepare", cache=cache), "No space left", str(cache), "SAPO_CACHE", "again"
    )
    assert [path.suffix for path in cache.iterdir()] == [".lock"]  # empty: who waits for it would lose it
