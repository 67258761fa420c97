"""A real OpenAI-compatible server on loopback, `transformers serve`, that answers with the default SmolLM2.

So small a model often fails the checks: every answer is either kept, and then good, or named.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sapo.artifacts.candidates import Asked
from sapo.candidates import api
from sapo.candidates.api import from_api
from sapo.candidates.checks import faults
from sapo.config import Model, Paraphrase
from sapo.data.embedded import load_embedded_task
from sapo.models.make import make_base
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json
from sapo.runtime.outputs import write_json

CONF = Path(__file__).parents[3] / "conf"
PATIENCE = 180  # seconds for the server to load its model
# The end of the answer is made likelier from its 40th token on: left alone, such a model rambles for a minute
BRIEF = {"exponential_decay_length_penalty": [40, 1.1]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "base"
    folder.mkdir()
    about = yaml.safe_load((CONF / "model/smollm2_135m.yaml").read_text())
    make_base(Model.model_validate(about), folder, seed=0)
    settings = read_json(folder / "generation_config.json")
    write_json(folder / "generation_config.json", settings | BRIEF)
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    """The address of a running server; it ends with the module."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("transformers")),
        "serve",
        str(model),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    log = model.parent / "server.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        ) as process,
    ):
        try:
            for _ in range(PATIENCE):
                assert process.poll() is None, log.read_text()[-3000:]
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                    break
                except OSError:
                    time.sleep(1)
            else:
                pytest.fail(f"no answer after {PATIENCE} s: {log.read_text()[-3000:]}")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


@pytest.mark.parametrize("name", ["xsum", "election_tweets"])
def test_what_a_real_model_answers_is_kept_when_it_is_good_and_named_when_it_is_not(
    server: str, model: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_embedded_task(name, 1, 1, 20, 1)
    settings = Paraphrase(
        source="api", count=1, path="", model=str(model), style="manners", temperature=0.6, concurrency=1
    )
    for variable, value in {
        "OPENAI_BASE_URL": server,
        "OPENAI_API_KEY": "any",
        "SAPO_CACHE": str(tmp_path),
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(api, "TRIES", 1)  # one answer tells
    refusal = ""
    try:
        candidates, how = from_api(task, settings)
    except DataError as error:
        refusal = str(error)
    if refusal:
        assert "gave 0 of 1 usable paraphrases in 1 answers. Rejected:\n  1 x it " in refusal
    else:
        assert len(candidates) == 1
        assert faults(candidates[0], task.instruction, task.labels) == []
        assert how == Asked(model=str(model), style="manners", temperature=0.6, asked=1, rejected={})
