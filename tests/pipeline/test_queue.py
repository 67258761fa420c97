"""Methods side by side in DVC's queue: one fails, the others finish, and nothing finished is run again."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from laboratory import commit, copy_of, read, run, settings, stages_run

DIVERGES = ["train.learning_rate=1e30"]


@pytest.fixture
def lab(two_methods: tuple[Path, str], tmp_path: Path) -> Iterator[Path]:
    folder = copy_of(two_methods[0], tmp_path / "lab")
    commit(folder, "baseline")
    yield folder
    run(folder, "dvc", "queue", "stop", "--kill")


def queue(lab: Path, name: str, *overrides: str, stages: tuple[str, ...] = ()) -> None:
    """An experiment with these overrides, of all stages or those named and what they need."""
    run(lab, "dvc", "exp", "run", "--queue", "--name", name, *settings(*overrides), *stages)


def work_off(lab: Path, seconds: int) -> dict[str, str]:
    """Start two workers; each task's status once none is waiting or running."""
    run(lab, "dvc", "queue", "start", "-j", "2")
    for _ in range(seconds // 2):
        time.sleep(2)
        table = run(lab, "dvc", "queue", "status")
        if not re.search(r"Queued|Running", table):
            break
    return {
        line.split()[1]: line.split()[-1] for line in table.splitlines() if re.match(r"[0-9a-f]{7} ", line)
    }


@pytest.mark.parametrize(
    ("methods", "stages"),
    [
        pytest.param(["olora"], ("train@reuters_r8",), id="two-methods"),
        pytest.param(["lora_inc", "lora_inc_sapo", "olora"], (), id="four-methods", marks=pytest.mark.long),
    ],
)
def test_one_fails_the_others_finish_and_its_finished_stages_come_back(
    lab: Path, methods: list[str], stages: tuple[str, ...]
) -> None:
    broken = ["method=olora_sapo", "selection.rows=3"]
    queue(lab, "broken", *broken, *DIVERGES)
    for method in methods:
        queue(lab, method.replace("_", "-"), f"method={method}")
    names = [method.replace("_", "-") for method in methods]
    assert work_off(lab, 1200) == {"broken": "Failed"} | dict.fromkeys(names, "Success")
    for method, name in zip(methods, names, strict=True):
        run(lab, "dvc", "exp", "apply", name)
        assert read(lab / "metrics/details.json")["method"] == method

    log = run(lab, "dvc", "queue", "logs", "broken")
    assert "lower train.learning_rate" in log
    assert "failed to reproduce 'train@reuters_r8'" in log
    finished = stages_run(log) - {
        "prepare",
        "base_model",
        "train@reuters_r8",
    }  # the first two are never cached
    assert "select@reuters_r8" in finished

    queue(lab, "mended", *broken, stages=stages)
    assert work_off(lab, 1200)["mended"] == "Success"
    again = stages_run(run(lab, "dvc", "queue", "logs", "mended"))
    assert "train@reuters_r8" in again
    assert not again & finished
    run(lab, "dvc", "exp", "apply", "mended")
    assert read(lab / "models/reuters_r8/lineage.json")["method"]["name"] == "olora_sapo"
    assert stages or read(lab / "metrics/details.json")["method"] == "olora_sapo"


@pytest.mark.long
def test_settings_that_cannot_work_say_so_in_the_log(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(yaml.safe_dump({"reuters_r8": ["One only."], "xsum": []}))
    queue(lab, "few", "method=olora_sapo", "paraphrase.source=file", f"paraphrase.path={tmp_path}/few.yaml")
    queue(
        lab,
        "absent",
        "method=olora_sapo",
        "paraphrase.source=file",
        f"paraphrase.path={tmp_path}/absent.yaml",
    )
    assert work_off(lab, 300) == {"few": "Failed", "absent": "Failed"}
    assert "lists 1 paraphrases of reuters_r8, paraphrase.count asks for 2" in run(
        lab, "dvc", "queue", "logs", "few"
    )
    absent = run(lab, "dvc", "queue", "logs", "absent")
    assert re.search(rf"ERROR: failed to reproduce 'paraphrase@reuters_r8'.*{tmp_path}/absent\.yaml", absent)
