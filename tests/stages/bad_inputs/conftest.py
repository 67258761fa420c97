"""The workspace that is broken, and the check of what a stage makes of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from broken import ABOUT, PARAPHRASES, REPOSITORY, SEQUENCE, TASKS, TEXTS, Case, content, run_stage

USAGE = 2  # argparse's exit status


@pytest.fixture(scope="session")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After all stages: settings, tasks and paraphrases of one's own, every output, reference results."""
    folder = tmp_path_factory.mktemp("valid")
    settings = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    tiny = (REPOSITORY / "conf/model/tiny_llama.yaml").read_text(encoding="utf-8")
    settings["model"] = yaml.safe_load(tiny)
    settings["sequence"] = {"name": "mine", "source": "folder", "path": "tasks"}
    settings["sequence"] |= {"tasks": SEQUENCE, "last": "echo"}
    settings["paraphrase"] |= {"source": "file", "path": TEXTS, "count": 2}
    settings["prompt"]["max_tokens"], settings["evaluate"]["max_new_tokens"] = 400, 2
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        Path(TEXTS).write_text(yaml.safe_dump(PARAPHRASES), encoding="utf-8")
        write_tasks()
        write_reference_results()
        for stage in ("prepare", "base_model", "evaluate base"):
            run_stage(stage)
        for task in TASKS:
            for script in ("paraphrase", "select_prompt", "train", "evaluate"):
                run_stage(f"{script} {task}")
        run_stage("report")
    return folder


def write_tasks() -> None:
    for task, about in TASKS.items():
        Path("tasks", task).mkdir(parents=True)
        labels = about["labels"] or ["one", "two"]
        for split, count in (("train", 6), ("test", 3)):
            rows = [{"sentence": f"{split} text {n}", "label": labels[n % 2]} for n in range(count)]
            Path("tasks", task, f"{split}.json").write_text(json.dumps(rows, indent=1))
    Path(ABOUT).write_text(json.dumps(TASKS))


def write_reference_results() -> None:
    for number, task in enumerate(TASKS, start=1):
        result = Path(f"run/{number}-{task}/all_results.json")
        result.parent.mkdir(parents=True)
        scores = {f"predict_rougeL_for_{name}": 50.0 for name in TASKS}
        result.write_text(json.dumps(scores | {"predict_loss": float("nan")}))
    Path("initial.json").write_text(json.dumps({f"rougeL_for_{name}": 10.0 for name in TASKS}))


@pytest.fixture
def workspace(valid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to break, with a cache of its own, no hub and no key."""
    place = tmp_path / "workspace"
    shutil.copytree(valid, place)
    monkeypatch.chdir(place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "SAPO_TRACEBACK"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("SAPO_CACHE", str(place / "cache"))
    return place


@pytest.fixture
def refused(
    workspace: Path, capfd: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> Callable[[Case], None]:
    """Break a workspace, run the case's stage, see that one line says why and no output is changed.

    A wrong command line ends as argparse ends it: with its usage, and a last line that says what is wrong.
    """

    def check(case: Case) -> None:
        case.broken()
        before = content(workspace)
        with pytest.raises(SystemExit) as ended:
            run_stage(case.stage)
        printed = capfd.readouterr()
        script, line = f"{case.stage.split()[0]}.py", ended.value.code
        if line == USAGE:
            usage, *_, line = printed.err.splitlines()
            assert usage.startswith(f"usage: {script} ")
            assert line.startswith(f"{script}: error: ")
        else:  # Python prints a text to stderr, and ends with status 1
            assert isinstance(line, str)
            assert line.startswith("error: ")
        assert re.search(case.message, line), line
        assert case.advice in line
        assert line.isprintable(), line
        assert len(line) < 1500
        assert "Traceback" not in printed.out + printed.err
        assert content(workspace) == before
        record_property("input", "refused")

    return check


@pytest.fixture
def accepted(workspace: Path, record_property: Callable[[str, object], None]) -> None:
    """For a test of what is strange and must work: a workspace, and a place in the count."""
    record_property("input", "accepted")
