"""What tests of the grid share: stages and cells before anything runs, and what a grid leaves."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from laboratory import run, settings
from sapo.grid.axes import Cell
from sapo.grid.pipeline import Stage
from sapo.grid.plan import Plan, plan

PATIENCE = 300  # seconds until a test that waits for a stage gives up


def once(*axes: str) -> list[str]:
    """The settings of small runs and these, each key once: the last one."""
    by_key = {override.partition("=")[0]: override for override in settings(*axes)[1::2]}
    return [part for override in by_key.values() for part in ("-S", override)]


def cell(name: str) -> Cell:
    return Cell(name, (f"name={name}",), {"name": name}, f"name: {name}\n")


def stages(chain: Mapping[str, Sequence[str]]) -> dict[str, Stage]:
    """Stages by key: the name and the keys that it needs."""
    return {
        key: Stage(
            key,
            key.partition("/")[0],
            "dvc.yaml",
            key,
            tuple((need, need) for need in needs),
            {},
            {key: True},
            True,
        )
        for key, needs in chain.items()
    }


def pair(*names: str, spread: str = "-") -> Plan:
    """Cells that share `data` and, the first two, `first`; each with a `train` and a `report` of its own."""
    of_cell = {}
    for n, name in enumerate(names):
        first = "first" if n < 2 else f"first/{name}"
        train, end = f"train/{name}", f"report/{name}"
        of_cell[name] = stages({"data": [], first: ["data"], train: [first], end: [train, "data"]})
    return plan(of_cell, [cell(name) for name in names], lambda stage: stage.name == spread)


def outputs(folder: Path, name: str, file: str = "dvc.lock") -> dict[str, str]:
    """The hash of each output of an experiment, but for when and where its stages ran."""
    ref = run(folder, "git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").strip()
    assert ref, name
    lock = yaml.safe_load(run(folder, "git", "show", f"{ref}:{file}"))
    found = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
    return {path: md5 for path, md5 in found.items() if not path.startswith("metrics/provenance")}


def at_work(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What it returns once it is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def training(lab: Path) -> Path | None:
    """A checkpoint of a training that is under way."""
    return next(lab.glob(".grid/cells/*/.checkpoints/*/checkpoint-*/whole"), None)


SMALL_PIPELINE = """stages:
  rows:
    cmd: python src/make.py rows ${rows},${more}
    deps: [src/make.py]
    params: [rows, more]
    outs: [data/rows: {cache: false}]
  part:
    foreach: [a, b]
    do:
      cmd: python src/make.py part ${item}
      deps: [src/make.py, "data/rows/${item}"]
      outs: ["out/${item}", "logs/${item}.txt"]
  whole:
    cmd: python src/make.py whole ${seed}
    deps: [src/make.py, out, data/rows/a/0.txt]
    params: [seed]
    outs: [model.txt]
    metrics: [metrics.json: {cache: false}]
"""
SMALL_PROGRAM = """import json, sys, time
from pathlib import Path

what, value = sys.argv[1:]
if what == "rows":
    rows, more = map(int, value.split(","))
    if rows < 0:
        sys.exit("error: no rows")
    for name, count in {"a": rows, "b": rows + more}.items():
        Path("data/rows", name).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            Path(f"data/rows/{name}/{n}.txt").write_text(f"{name} {n}")
elif what == "part":
    Path("out", value).mkdir(parents=True, exist_ok=True)
    Path("logs").mkdir(exist_ok=True)
    Path(f"logs/{value}.txt").write_text(f"{value} {time.time_ns()}")
    for path in Path("data/rows", value).iterdir():
        Path("out", value, path.name).write_text(path.read_text().upper())
else:
    if value == "13":
        sys.exit("error: 13 brings bad luck")
    rows = sorted(path.read_text() for path in Path("out").rglob("*.txt"))
    Path("model.txt").write_text(f"{value} {rows}")
    Path("metrics.json").write_text(json.dumps({"AP": int(value)}))
"""


def small_pipeline(folder: Path) -> Path:
    """A repository whose stages need no model: an uncached folder, parts of it, a stage that needs both."""
    files = {
        "dvc.yaml": SMALL_PIPELINE,
        "src/make.py": SMALL_PROGRAM,
        "conf/config.yaml": "rows: 2\nmore: 0\nseed: 1\n",
        "params.yaml": "rows: 2\nmore: 0\nseed: 1\n",
        ".dvc/config": "[core]\n    analytics = false\n    autostage = false\n[hydra]\n    enabled = true\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        ".gitignore": "/.grid/\n/data\n/out\n/logs\n/model.txt\n",
        ".dvcignore": ".grid/\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "test")
    run(folder, "git", "config", "user.email", "test@example.org")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "start")
    return folder


def small_cell(name: str = "one", **settings: int) -> Cell:
    content = {"rows": 2, "more": 0, "seed": 1} | settings
    overrides = tuple(f"{key}={value}" for key, value in settings.items())
    return Cell(name, overrides, content, yaml.safe_dump(content))
