"""Keys and tokens stay with the stage that needs them, and out of what it says and writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from canaries import KEY, TOKEN, holding, repeated
from openai_server import OpenAIServer, connect
from sapo.runtime.command import run
from sapo.runtime.keys import ALL, HUB, OPENAI, TRACKERS, forget_keys, masked, without_keys

REPOSITORY = Path(__file__).parents[3]


def test_a_stage_keeps_the_keys_that_it_needs_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in ((), OPENAI, HUB, TRACKERS):
        for name in ALL:
            monkeypatch.setenv(name, KEY)
        monkeypatch.setattr("sys.argv", ["stage.py"])
        child = [sys.executable, "-c", "import json, os; print(json.dumps(list(os.environ)))"]
        seen: list[set[str]] = []
        run(lambda: seen.append(set(json.loads(subprocess.check_output(child)))), needed)  # noqa: B023
        assert seen[0] & set(ALL) == set(needed)


def test_every_stage_says_which_keys_it_needs() -> None:
    started = {
        path.stem: path.read_text().splitlines()[-1].strip() for path in (REPOSITORY / "src").glob("*.py")
    }
    assert started["paraphrase"] == "run(paraphrase, OPENAI)"
    assert started["prepare"] == "run(prepare, HUB)"
    assert started["base_model"] == "run(base_model, HUB)"
    assert started["train"] == "run(train, TRACKERS)"
    assert started["study_paraphrase"] == "run(study_paraphrase, OPENAI)"
    for stage in set(started) - {"paraphrase", "prepare", "base_model", "train", "study_paraphrase"}:
        assert ", " not in started[stage]


def test_a_tracker_s_keys_are_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://me:{TOKEN}@curves.example.org")
    said = masked(f"401 for {KEY} at curves.example.org with me:{TOKEN}")
    assert said == "401 for *** at curves.example.org with ***"


def test_the_hubs_token_is_in_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["model"] |= {"source": "hub", "id": "someone/gated", "revision": "0" * 40, "wheel": None}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with OpenAIServer(lambda request: repeated("hub", TOKEN)) as hub:
        connect(monkeypatch, hub.url, KEY, tmp_path / "cache")
        settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": TOKEN}
        settings |= {"HF_HUB_OFFLINE": "0", "SAPO_TRACEBACK": "1"}
        command = [sys.executable, str(REPOSITORY / "src/base_model.py")]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True
        )
        said = [request.headers.get("authorization") for request in hub.requests]
    assert done.returncode == 1
    assert f"Bearer {TOKEN}" in said
    assert "error: model.id: cannot fetch someone/gated" in done.stderr
    assert "***" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert holding(tmp_path, TOKEN) == []


def test_keys_are_taken_from_this_process_and_from_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL:
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("SAPO_UNRELATED", "kept")
    assert KEY not in without_keys().values()
    assert without_keys()["SAPO_UNRELATED"] == "kept"
    forget_keys(OPENAI)
    assert {name for name, value in os.environ.items() if value == KEY} == set(OPENAI)
    forget_keys()
    assert KEY not in os.environ.values()
