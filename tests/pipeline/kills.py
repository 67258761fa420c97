"""Kill the pipeline with SIGKILL again and again: the end must be that of an undisturbed run, byte for byte.

    python tests/pipeline/kills.py --setting tiny --kills 20 --seed 0         # some 6 minutes on two cores
    python tests/pipeline/kills.py --setting default --kills 5 --output kills.json

Works in clones of the repository's last commit in a temporary folder. After each kill comes `dvc repro`
again, at once; should that fail, `python tools/recover.py` and `dvc repro`, as `make repro` does. Kill
points are drawn from the time of the undisturbed run, stage by stage; one more is aimed at a training that
has written a checkpoint. After the last, the run goes on to its end.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from dvc.utils.hydra import compose_and_dump

REPOSITORY = Path(__file__).parents[2]
TASKS = {"one": ["reuters_r8"], "tiny": ["reuters_r8", "xsum"]}
SMALL = [
    *["model=tiny_llama", "data.train_rows=24", "data.test_rows=3", "paraphrase.count=2", "selection.rows=4"],
    *[
        "prompt.max_tokens=900",
        "evaluate.max_new_tokens=4",
        "train.batch_size=4",
        "train.epochs=6",  # long enough to be killed between its first checkpoint and its end
        "train.checkpoints=3",
    ],
]
COMPARED = ("metrics", "data/prompts", "data/predictions", "models", "plots/train")
KINDS = ("stage", "dvc", "both")
LOOK = 0.005  # seconds between two looks at a run
GRACE = 10.0  # seconds in which an orphan must have ended
STARTED = re.compile(r"^Running stage '([^']+)'", re.MULTILINE)
RESUMED = re.compile(r"goes on from checkpoint-(\d+) of (\d+) steps")


@dataclass(frozen=True)
class Point:
    """When to kill: `seconds` after the start of `stage` ("": before the first); None: at its checkpoint."""

    stage: str
    seconds: float | None
    kind: str


@dataclass
class Record:
    """What happened, for people and for --output."""

    kills: list[dict[str, Any]] = field(default_factory=list)
    reruns: int = 0
    passes: int = 1
    helped: list[str] = field(default_factory=list)  # why a rerun needed recover.py, and what that said
    resumed: list[str] = field(default_factory=list)  # trainings that went on from a checkpoint
    stages_run: Counter[str] = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def environment() -> dict[str, str]:
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }


def clone(folder: Path, setting: str, method: str) -> Path:
    """A clone of the last commit with the setting's params.yaml, without outputs and without a DVC cache."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    if tasks := TASKS.get(setting):
        chain = "".join(
            f"  {task}: {{after: {after}}}\n" for task, after in zip(tasks, ["base", *tasks], strict=False)
        )
        text = f"name: small\nsource: embedded\npath: src/sapo/data/tasks\ntasks:\n{chain}last: {tasks[-1]}\n"
        (folder / "conf/sequence/small.yaml").write_text(text)
    overrides = [f"method={method}", *(["sequence=small", *SMALL] if tasks else [])]
    compose_and_dump(str(folder / "params.yaml"), str(folder / "conf"), None, "config", "", overrides)
    for name in ("cl.json", "details.json"):
        (folder / "metrics" / name).unlink(missing_ok=True)
    return folder


class Run:
    """One `dvc repro`, under way. `output`: what it and its stages have printed so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder.with_name(f"{folder.name}.log")
        with self.log.open("wb") as log:
            self.dvc = subprocess.Popen(
                ["dvc", "repro"], cwd=folder, env=environment(), stdout=log, stderr=subprocess.STDOUT
            )
        self.begun = {"": time.monotonic()}  # stage -> when its start was seen

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def stage(self) -> str:
        return next(reversed(self.begun))

    def look(self) -> bool:
        """Note stages that have started since; whether the run goes on."""
        for stage in STARTED.findall(self.output):
            self.begun.setdefault(stage, time.monotonic())
        return self.dvc.poll() is None

    def stages(self) -> list[psutil.Process]:
        """The processes of the stage that runs now, the launcher and what it started among them."""
        try:
            below = psutil.Process(self.dvc.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [process for process in below if any(part.startswith("src/") for part in cmdline(process))]

    def checkpoint(self) -> bool:
        return any(self.folder.glob(".checkpoints/*/checkpoint-*/whole"))

    def kill(self, kind: str) -> tuple[str, list[psutil.Process]]:
        """SIGKILL to the stage, DVC or both; what was killed (DVC where no stage runs), its processes."""
        stages = self.stages()
        done = kind if stages else "dvc"
        if done != "stage":
            self.dvc.kill()
        for process in stages if done != "dvc" else []:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        try:
            self.dvc.wait(GRACE)
        except subprocess.TimeoutExpired:  # the stage had just ended, and DVC went on
            done = "dvc"
            self.dvc.kill()
            self.dvc.wait()
        return done, stages


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def undisturbed(folder: Path) -> dict[str, float]:
    """Run to the end; the seconds of each stage with DVC's work behind it ("": before the first)."""
    run = Run(folder)
    while run.look():
        time.sleep(LOOK)
    if run.dvc.returncode:
        sys.exit(f"the undisturbed run failed:\n{run.output[-4000:]}")
    ends = [*list(run.begun.values())[1:], time.monotonic()]
    return {stage: end - start for (stage, start), end in zip(run.begun.items(), ends, strict=True)}


def points(timeline: dict[str, float], kills: int, seed: int) -> list[Point]:
    """`kills` points, evenly likely over the undisturbed run's time, in order; and one after a checkpoint."""
    chance = random.Random(seed)
    stages, drawn = list(timeline), []
    for moment in sorted(chance.uniform(0, sum(timeline.values())) for _ in range(kills)):
        passed = 0.0
        for stage, seconds in timeline.items():
            if passed <= moment < passed + seconds:
                drawn.append(Point(stage, moment - passed, chance.choice(KINDS)))
            passed += seconds
    training = chance.choice([stage for stage in stages if stage.startswith("train@")])
    aimed = Point(training, None, chance.choice(KINDS))
    return sorted([*drawn, aimed], key=lambda point: (stages.index(point.stage), point.seconds or 0.0))


def reached(run: Run, point: Point) -> bool:
    """Whether the run is at the point, or past it: after a resumed stage it may be.

    Stages that do not need each other run in another order now and then.
    """
    if run.stage != point.stage:
        return point.stage in run.begun
    return (
        run.checkpoint()
        if point.seconds is None
        else time.monotonic() - run.begun[point.stage] >= point.seconds
    )


def disturbed(folder: Path, wanted: list[Point], record: Record) -> list[Point]:
    """Run to the end, with kills on the way; the points that were not reached.

    After a kill comes `dvc repro` alone; `tools/recover.py` helps when DVC says that it cannot go on.
    """
    wanted, helped, orphans = list(wanted), False, list[psutil.Process]()
    while True:
        run = Run(folder)
        if psutil.wait_procs(orphans, timeout=GRACE)[1]:
            sys.exit(f"a stage of a killed run works on beside the next run: {orphans}")
        while run.look() and not (wanted and reached(run, wanted[0])):
            time.sleep(LOOK)
        killed = run.dvc.poll() is None
        if killed:
            point = wanted.pop(0)
            kind, orphans = run.kill(point.kind)
            record.kills.append(
                {
                    "kind": kind,
                    "stage": run.stage,
                    "aimed": point.seconds is None,
                    "checkpoint": run.checkpoint(),
                }
            )
            print(f"killed {kind} in {run.stage or 'DVC, before the first stage'}", flush=True)
        output = run.output
        record.resumed += [f"{stage}: step {step} of {steps}" for stage, step, steps in resumptions(output)]
        record.stages_run.update(STARTED.findall(output))
        if not run.dvc.returncode:
            return wanted
        if not killed:
            if helped or "Running stage" in output:
                sys.exit(
                    f"a run failed that nobody killed (exit status {run.dvc.returncode}):\n{output[-4000:]}"
                )
            lines = output.strip().splitlines()
            record.helped += [
                next((line for line in lines if "invalid" in line or "failed" in line), lines[-1]),
                *recover(folder),
            ]
            print("recover.py was needed:", *record.helped, sep="\n  ", flush=True)
        helped = not killed
        record.reruns += 1


def recover(folder: Path) -> list[str]:
    """What tools/recover.py says that it has mended."""
    command = [sys.executable, "tools/recover.py"]
    return subprocess.run(
        command, cwd=folder, env=environment(), text=True, capture_output=True, check=True
    ).stdout.splitlines()


def resumptions(output: str) -> Iterator[tuple[str, str, str]]:
    """The trainings that went on from a checkpoint: stage, step, number of steps."""
    parts = STARTED.split(output)
    for stage, text in zip(parts[1::2], parts[2::2], strict=True):
        for step, steps in RESUMED.findall(text):
            yield stage, step, steps


def contents(folder: Path) -> dict[str, bytes]:
    """The outputs by name; not the records of when and how long each stage ran (`metrics/provenance`)."""
    found = (path for name in COMPARED for path in (folder / name).rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in found
        if "provenance" not in str(path.relative_to(folder))
    }


def compare(reference: Path, folder: Path, record: Record) -> None:
    """Note the outputs that differ, and what kills have left: partial files, checkpoints, a detached HEAD."""
    one, other = contents(reference), contents(folder)
    assert {"metrics/cl.json", "metrics/scores/base.json"} <= one.keys()
    record.different += sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    if "SAPO_CACHE" in os.environ:
        record.left += [str(path) for path in Path(os.environ["SAPO_CACHE"]).rglob("*.partial*")]
    left = [
        *folder.rglob("*.partial"),
        *folder.glob(".checkpoints/*/checkpoint-*"),
        *folder.glob(".git/*.lock"),
    ]
    record.left += [str(path.relative_to(folder)) for path in left]
    if (
        "Running stage"
        in subprocess.run(
            ["dvc", "repro"], cwd=folder, env=environment(), text=True, capture_output=True
        ).stdout
    ):
        record.left.append("stages that another `dvc repro` runs again")


def experiment(
    work: Path,
    setting: str,
    kills: int,
    seed: int,
    fresh_cache: bool = False,
    method: str = "lora_inc_sapo",
) -> Record:
    """The whole experiment in the folder `work`; `fresh_cache`: disturbed downloads and conversions too."""
    reference = clone(work / "reference", setting, method)
    timeline = undisturbed(reference)
    print(f"undisturbed: {sum(timeline.values()):.0f} s, {len(timeline) - 1} stages", flush=True)
    if fresh_cache:
        os.environ["SAPO_CACHE"] = str(work / "cache")
    record, wanted = Record(), points(timeline, kills, seed)
    while True:
        folder = clone(work / f"pass{record.passes}", setting, method)
        wanted = disturbed(folder, wanted, record)
        compare(reference, folder, record)
        if not wanted:
            return record
        record.passes += (
            1  # a stage that went on from its checkpoint can end before the points that lie behind
        )


def summary(record: Record) -> dict[str, Any]:
    by_kind, by_stage = (Counter(kill[key] or "before" for kill in record.kills) for key in ("kind", "stage"))
    return asdict(record) | {
        "kills_by_kind": dict(by_kind),
        "kills_by_stage": dict(by_stage),
        "identical": not record.different,
        "stages_run": dict(record.stages_run),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--setting", choices=[*TASKS, "default"], default="tiny")
    parser.add_argument("--method", default="lora_inc_sapo", help="a file of conf/method/")
    parser.add_argument("--kills", type=int, default=20, help="beside the one that is aimed at a checkpoint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="write the summary here as JSON")
    parser.add_argument(
        "--fresh-cache",
        action="store_true",
        help="an empty SAPO_CACHE for the disturbed runs: needs a network",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        record = experiment(
            Path(work), options.setting, options.kills, options.seed, options.fresh_cache, options.method
        )
    result = {"setting": options.setting, "seed": options.seed} | summary(record)
    print(
        f"kills: {len(record.kills)}, by kind {result['kills_by_kind']}, by stage {result['kills_by_stage']}"
    )
    print(
        f"reruns: {record.reruns} in {record.passes} pass(es); "
        f"recover.py was needed: {'; '.join(record.helped) or 'no'}"
    )
    print(f"trainings resumed from a checkpoint: {', '.join(record.resumed) or 'none'}")
    print(f"outputs identical: {'yes' if result['identical'] else 'no: ' + ', '.join(record.different)}")
    print(f"left behind: {', '.join(record.left) or 'nothing'}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(record.different or record.left))


if __name__ == "__main__":
    main()
