"""The environment says how many processes there are: believed where the launch setting starts so many."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from laboratory import REPOSITORY
from sapo.config import load_params
from sapo.runtime.errors import DataError
from sapo.runtime.processes import NEEDED, check_launch, is_main, process_count, process_index

LAUNCHES = {
    path.stem: yaml.safe_load(path.read_text("utf-8")) for path in (REPOSITORY / "conf/launch").glob("*.yaml")
}
LAUNCHED = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)


def test_without_a_word_of_others_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", " ", "1"):
        if value is not None:
            monkeypatch.setenv("WORLD_SIZE", value)
            monkeypatch.setenv("RANK", value.replace("1", "0"))
        assert (process_count(), process_index(), is_main()) == (1, 0, True)
        for launch in LAUNCHES.values():
            check_launch(launch["name"], launch["command"], launched=True)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
@pytest.mark.parametrize("value", ["two", "-1", "2.0", "1e3", "\u0662", "0x2", "2 2"])
def test_what_is_no_number_of_processes_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(DataError, match=f"^{name}={value} in the environment is not a number.*unset it"):
        check_launch("single", "python", launched=True)


def test_no_process_at_all_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "0")
    with pytest.raises(DataError, match="WORLD_SIZE=0 in the environment"):
        process_count()


@pytest.mark.parametrize("command", ["python", "python3.12", "/usr/bin/python3", "python -X utf8"])
@pytest.mark.parametrize(
    "others", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "MASTER_ADDR": "node1"}, LAUNCHED], ids=len
)
def test_several_processes_where_the_launch_setting_starts_one_are_refused(
    monkeypatch: pytest.MonkeyPatch, command: str, others: dict[str, str]
) -> None:
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        DataError, match=r"^WORLD_SIZE=2 .* launch=mine starts one process: unset it, or use lau"
    ):
        check_launch("mine", command, launched=False)


def test_a_rank_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(DataError, match=r"^RANK=1 in the environment, but WORLD_SIZE is 1: unset both"):
        check_launch("single", "python", launched=True)


@pytest.mark.parametrize(
    "command",
    [*{LAUNCHES[name]["command"] for name in ("ddp", "fsdp")}, "torchrun x", "python -m accelerate.x"],
)
def test_what_a_launcher_started_is_believed(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    check_launch("ddp", command, launched=True)
    assert (process_count(), process_index(), is_main()) == (2, 1, False)


@pytest.mark.parametrize("lacking", NEEDED)
def test_processes_that_cannot_find_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, "" if name == lacking else value)
    command = LAUNCHES["ddp"]["command"]
    with pytest.raises(DataError, match=f"^WORLD_SIZE=2 .* without {lacking}: unset it, or start"):
        check_launch("ddp", command, launched=True)
    # A stage of one process does not need them: a batch system may have set the rest for the others
    check_launch("ddp", command, launched=False)


def test_settings_are_read_with_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DataError, match="WORLD_SIZE=2"):
        load_params(REPOSITORY / "params.yaml")


ALONE = ("prepare.py", "base_model.py", "report.py", "study_paraphrase.py", "study_report.py")
ARGUMENTS: dict[str, list[str]] = {
    **{script: [] for script in ALONE},
    "study_losses.py": ["newsgroups", "reuters_r8"],
    "study_train.py": ["newsgroups", "reuters_r8", "1"],
}


@pytest.mark.parametrize(
    ("script", "environment"),
    [
        *[(path.name, {"WORLD_SIZE": "2"}) for path in sorted((REPOSITORY / "src").glob("*.py"))],
        ("train.py", {"RANK": "x"}),
        ("evaluate.py", LAUNCHED),
    ],
)
def test_every_stage_ends_with_one_line_instead_of_waiting(
    tmp_path: Path, script: str, environment: dict[str, str]
) -> None:
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text("utf-8"), encoding="utf-8")
    arguments = ARGUMENTS.get(script, ["reuters_r8"])
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "src" / script), *arguments],
        cwd=tmp_path,
        env=os.environ | environment,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: RANK=x " if "x" in environment.values() else "error: WORLD_SIZE=2 ")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
