"""A stage ends with the DVC that started it, whatever stands between them; nothing else is watched."""

import os
import subprocess
import sys

import psutil
import pytest

from laboratory import REPOSITORY

SRC = REPOSITORY / "src"
PATIENCE = 30  # seconds until a test gives up
# What a stage does, as far as this matters: its work, which tells that it is there and goes on, in `run`.
STAGE = (
    "import os, time; from sapo.runtime.command import run; "
    "run(lambda: (print(os.getpid(), flush=True), time.sleep(600)))"
)
# DVC in short: it runs a command with the stage's name in its environment, and waits.
DVC = "import os, subprocess, sys; subprocess.run(sys.argv[1:], env={**os.environ, 'DVC_STAGE': 'train@x'})"


def start(*between: str, dvc: bool = True) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A stage below `between` below DVC (or what is none), when its work has begun."""
    program = DVC if dvc else DVC.replace("DVC_STAGE", "OTHER")
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"} | {
        "PYTHONPATH": str(SRC)
    }
    command = [sys.executable, "-c", program, *between, sys.executable, "-c", STAGE]
    if between:
        command = [sys.executable, "-c", program, *between, f"{sys.executable} -c '{STAGE}'; true"]
    top = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert top.stdout
    return top, psutil.Process(int(top.stdout.readline()))


@pytest.mark.parametrize("between", [(), ("sh", "-c")])
def test_a_stage_dies_with_its_dvc(between: tuple[str, ...]) -> None:
    dvc, stage = start(*between)
    with dvc:
        assert stage.is_running()
        dvc.kill()
    stage.wait(PATIENCE)


def test_a_stage_dies_with_a_launcher_between_it_and_dvc() -> None:
    dvc, stage = start("sh", "-c")
    with dvc:
        launcher = stage.parent()
        assert launcher
        assert launcher.name() == "sh"
        launcher.kill()
        stage.wait(PATIENCE)


def test_a_script_that_dvc_did_not_start_outlives_its_parent() -> None:
    parent, script = start(dvc=False)
    with parent:
        parent.kill()
    with pytest.raises(psutil.TimeoutExpired):
        script.wait(1)
    script.kill()


def test_a_stage_whose_dvc_died_before_it_could_look_does_no_work() -> None:
    """The system's first process has taken it over then."""
    code = (
        "import os, time; time.sleep(1); print(os.getppid(), flush=True); "
        "from sapo.runtime.command import run; run(lambda: print('works on', flush=True))"
    )
    environment = os.environ | {"PYTHONPATH": str(SRC), "DVC_STAGE": "train@x", "CODE": code}
    shell = f'{sys.executable} -c "$CODE" & kill -9 $$'
    done = subprocess.run(
        ["sh", "-c", shell], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    parent, *work = done.stdout.splitlines()
    if parent != "1":
        pytest.skip(f"process {parent} takes over orphans here, not the system's first one")
    assert not work
