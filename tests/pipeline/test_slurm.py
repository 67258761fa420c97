"""tools/slurm/grid.sbatch on a real Slurm of one node, started and stopped here; a job is requeued midway."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from grids import once, outputs, training, wait_for
from laboratory import commit, copy_of, environment, experiment, run

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol", "squeue")
FOUND = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in NEEDED}
LACKING = [name for name, path in FOUND.items() if path is None]
pytestmark = [
    pytest.mark.skipif(
        bool(LACKING),
        reason=f"no Slurm here ({', '.join(LACKING)}): apt-get install slurm-wlm slurmd slurmctld munge",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="starting a Slurm needs root"),
    pytest.mark.long,
]
pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-grid.txt")
CELL = "pair-tiny_llama-olora"  # the choices that are given
CONF = """ClusterName=test
SlurmctldHost={host}
SlurmctldPort={port}
SlurmdPort={other}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=10
MpiDefault=none
NodeName={host} CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a Slurm with this machine as its node."""
    folder = Path(f"/tmp/slurm-{os.getpid()}")  # short: a socket lies there
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    text = CONF.format(folder=folder, host=host, port=16817, other=16818, cores=psutil.cpu_count())
    (folder / "slurm.conf").write_text(text)
    variables = environment() | {"SLURM_CONF": str(folder / "slurm.conf")}
    programs = [
        [
            *(FOUND["munged"], "--foreground", "--force", f"--key-file={folder}/munge.key"),
            *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid"),
            *(f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"),
        ],
        [FOUND["slurmctld"], "-D", "-f", str(folder / "slurm.conf")],
        [FOUND["slurmd"], "-D", "-f", str(folder / "slurm.conf")],
    ]
    started = []
    for program in programs:
        log = (folder / f"{Path(str(program[0])).name}.out").open("w")
        started.append(subprocess.Popen([*map(str, program)], env=variables, stdout=log, stderr=log))
        time.sleep(2)
    try:
        wait_for(lambda: "idle" in told(variables, "sinfo", "--noheader", "--format=%T"), 60)
        yield variables
    finally:
        told(variables, "scancel", "--user=root")
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def told(variables: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=variables, text=True, capture_output=True).stdout


def test_a_requeued_job_goes_on_and_its_results_are_those_of_plain_runs(
    slurm: dict[str, str], tiny_project: Path, tmp_path: Path
) -> None:
    plain = copy_of(tiny_project, tmp_path / "plain")
    commit(plain, "baseline")
    experiment(plain, "method=olora", "train.epochs=20", options=("--name", "olora"))
    lab = copy_of(tiny_project, tmp_path / "lab")
    commit(lab, "baseline")
    sent = subprocess.run(
        ["sbatch", "tools/slurm/grid.sbatch", *once("method=olora", "train.epochs=20")],
        cwd=lab,
        env=slurm,
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    job = sent.split()[-1]
    wait_for(lambda: training(lab))
    subprocess.run(["scontrol", "requeue", job], env=slurm, check=True)
    wait_for(lambda: not told(slurm, "squeue", "--noheader", f"--jobs={job}").strip(), 1200)
    log = (lab / f"grid-{job}.log").read_text(encoding="utf-8")
    assert re.search(r"1 of 1 cells finished", log), log[-3000:]
    assert "goes on from checkpoint-" in "".join(path.read_text() for path in lab.glob(".grid/logs/*.log"))
    assert outputs(lab, CELL) == outputs(plain, "olora")
    assert CELL in run(lab, "dvc", "exp", "list", "--name-only").split()
    assert list((lab / ".grid/cells").iterdir()) == []
    assert not Path("/tmp/sapo-grid-" + job).exists()  # of tools/slurm/grid.sbatch
