"""The whole pipeline, with keys in its environment, a server that repeats them, and markup in every text."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import compose_and_dump
from markdown_it import MarkdownIt

from canaries import KEY, MARKUP, TOKEN, holding, repeated
from openai_server import Answer, OpenAIServer, Request, completion, connect
from sapo.artifacts.candidates import Candidates
from sapo.artifacts.lineage import Lineage

REPOSITORY = Path(__file__).parents[2]


def answers_with_markup(request: Request) -> Answer:
    return completion(f"Reader {request.number}: is it good, or is it bad? {MARKUP}")


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """The server that the environment names; both keys are set."""
    with OpenAIServer(answers_with_markup) as server:
        connect(monkeypatch, server.url, KEY, tmp_path / "cache")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def test_a_whole_run_with_a_language_model_writes_no_key_and_shows_no_markup(
    endpoint: OpenAIServer, tmp_path: Path
) -> None:
    project, path = tmp_path / "project", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name in ("src", "conf", ".dvc/plots"):
        shutil.copytree(REPOSITORY / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config"):
        shutil.copy(REPOSITORY / name, project / name)
    (project / "mine/reviews").mkdir(parents=True)
    rows = [{"sentence": f"{n} {MARKUP}", "label": "good" if n % 2 else "bad"} for n in range(4)]
    for split in ("train", "test"):
        (project / f"mine/reviews/{split}.json").write_text(json.dumps(rows))
    about = {"instruction": f"Is it good or bad? {MARKUP}", "suffix": "Answer:", "labels": ["good", "bad"]}
    (project / "mine/instructions.json").write_text(json.dumps({"reviews": about, "../../escaped": about}))
    sequence = {
        "name": "mine",
        "source": "folder",
        "path": "mine",
        "tasks": {"reviews": {"after": "base"}},
        "last": "reviews",
    }
    (project / "conf/sequence/mine.yaml").write_text(yaml.safe_dump(sequence))
    overrides = [
        "sequence=mine",
        "model=tiny_llama",
        "data.test_rows=2",
        "paraphrase.source=api",
        "paraphrase.count=2",
    ]
    overrides += ["prompt.max_tokens=1500", "evaluate.max_new_tokens=3", "train.learning_rate=0.01"]
    compose_and_dump(str(project / "params.yaml"), str(project / "conf"), None, "config", "", overrides)
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "HOME": str(tmp_path / "home")}

    def call(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    for command in ("init -q", "add -A", "-c user.name=test -c user.email=test@example.org commit -qm start"):
        assert call("git", *command.split()).returncode == 0
    endpoint.always(repeated("401", KEY))
    refused = call("dvc", "repro", "-v", "paraphrase@reviews")
    endpoint.first(*(repeated(fault, KEY) for fault in ("answer", "500", "not json")))
    whole = call("dvc", "repro", "-v")
    page = call("dvc", "plots", "show", "-o", "page")
    assert (refused.returncode > 0, whole.returncode, page.returncode) == (True, 0, 0), (
        refused.stdout[-2000:] + whole.stdout[-20000:]
    )
    assert {request.headers["authorization"] for request in endpoint.requests} == {f"Bearer {KEY}"}
    assert "error: reviews: no answer from the endpoint (status 401: " in refused.stdout
    record = Candidates.read(project / "data/paraphrases/reviews.json")
    assert record.api is not None
    assert record.api.rejected == {"it repeats the key": 1, "the answer is not valid JSON": 1}
    assert [MARKUP in text for text in record.candidates] == [True] * 3

    for secret in (KEY, TOKEN):
        assert secret not in refused.stdout + whole.stdout + page.stdout
    assert holding(tmp_path, KEY, TOKEN) == []
    assert list((project / ".dvc/cache").rglob("*"))
    assert list((tmp_path / "cache").rglob("*.json"))  # of the language model's answers
    assert not list(tmp_path.rglob("*escaped*"))

    shown = (project / "page/index.html").read_text(encoding="utf-8")
    assert "reviews" in shown
    assert "alert(1)" not in shown  # no instruction, label or answer is in the plots' data
    card = (project / "models/reviews/README.md").read_text(encoding="utf-8")
    assert "alert(1)" in card
    assert "<script" not in MarkdownIt("commonmark").render(card.split("---\n", 2)[2])
    [learned] = Lineage.read(project / "models/reviews/lineage.json").tasks  # refuses what is not finite
    assert learned.history
    assert MARKUP in learned.prompt.instruction
