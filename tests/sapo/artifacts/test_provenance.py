"""What is kept of when, where and from which code a stage ran."""

import getpass
import socket
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from by_hand import write_provenance_by_hand
from laboratory import REPOSITORY
from sapo.artifacts.provenance import (
    FOLDER,
    GATHERED,
    Code,
    RunProvenance,
    StageProvenance,
    code_revision,
    gather,
    host,
    write_provenance,
)
from sapo.artifacts.run_record import RunName
from sapo.config import Params
from sapo.runtime.errors import ArtifactError


@pytest.fixture
def params() -> Params:
    settings = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    settings["paraphrase"] |= {"source": "file", "path": "/home/somebody/paraphrases.yaml"}
    settings["data"]["url"] = "/home/somebody/benchmarks"
    settings["sequence"] |= {"source": "folder", "path": "/home/somebody/tasks"}
    settings["model"] |= {
        "source": "folder",
        "id": "/home/somebody/model",
        "path": "/home/somebody/model",
        "wheel": None,
    }
    return Params.model_validate(settings)


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", *identity, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_file_says_when_where_on_what_and_names_no_host_user_or_path(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_provenance("train", "xsum", params, rows=80, steps=10)
    kept = StageProvenance.read(FOLDER / "train-xsum.json")
    assert kept.samples == {"rows": 80, "steps": 10}
    assert datetime.fromisoformat(kept.started).tzinfo is not None
    assert kept.seconds > 0
    assert kept.host.processor
    assert kept.host.cores
    assert kept.versions.keys() >= {"python", "torch", "transformers"}
    assert (kept.params["seed"], kept.params["train"]) == (params.seed, params.train.model_dump())
    texts = [value for value in _values(kept.content()) if isinstance(value, str)]
    words = {word for text in texts for word in text.replace("/", " / ").split()}
    assert not words & {"/", "somebody", socket.gethostname(), getpass.getuser()}


def _values(content: object) -> list[object]:
    if isinstance(content, dict):
        return [value for item in content.values() for value in _values(item)]
    return [value for item in content for value in _values(item)] if isinstance(content, list) else [content]


def test_the_code_is_known_by_its_commit_and_what_a_run_writes_makes_it_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert code_revision() == Code(revision=None, dirty=None)  # no repository
    git("init", "-q")
    Path("src").mkdir()
    for path in ("src/train.py", "params.yaml", "dvc.lock"):
        Path(path).write_text("before")
    git("add", "-A")
    git("commit", "-qm", "start")
    clean = Code(revision=git("rev-parse", "HEAD"), dirty=False)
    dirty = Code(revision=clean.revision, dirty=True)
    Path("dvc.lock").write_text("after")
    Path("params.yaml").write_text("after")
    assert code_revision() == clean
    Path("src/new.py").write_text("")
    assert code_revision() == dirty
    Path("src/new.py").unlink()
    Path("src/train.py").write_text("after")
    assert code_revision() == dirty
    monkeypatch.setenv("PATH", str(tmp_path))  # no git program
    assert code_revision() == Code(revision=None, dirty=None)


def test_the_machine_is_described_by_what_may_change_last_digits() -> None:
    import torch

    assert host().threads == torch.get_num_threads()
    assert host().processes == 1


NAME = RunName(method="olora", model="tiny", seed=1, sequence="s")


def test_the_files_of_a_sequence_become_one_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["evaluate-base", "select-a", "train-a", "evaluate-a"]
    for number, name in enumerate(names):
        write_provenance_by_hand(name, seconds=1.5, revision="c1" if number else "c2")
    (FOLDER / "train-of_another_sequence.json").write_text("{}")
    found = gather(["a"], NAME)
    assert (list(found.stages), found.seconds) == (names, 6.0)
    assert found.stages["train-a"] == StageProvenance.read(FOLDER / "train-a.json")
    assert found.code == [Code(revision="c1", dirty=False), Code(revision="c2", dirty=False)]
    found.write()
    assert RunProvenance.read(GATHERED) == found
    (FOLDER / "train-a.json").unlink()
    with pytest.raises(ArtifactError, match=r"train-a\.json is missing"):
        gather(["a"], NAME)
