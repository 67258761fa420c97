"""select, train and evaluate in two processes (gloo, no accelerator), weights whole or sharded, as in one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import compose_and_dump
from safetensors.torch import load_file

import base_model
import paraphrase
import prepare
from laboratory import REPOSITORY
from sapo.artifacts.chosen_prompt import ChosenPrompt, prompt_path
from sapo.artifacts.lineage import Step, model_folder, read_lineage, weights_path
from sapo.artifacts.scores import read_scores
from sapo.runtime.files import read_jsonl

TASKS = ["size", "colour"]
# What a batch system or a launcher around DVC may have set: the stages' own launcher has the last word
SURROUNDING = {
    "WORLD_SIZE": "5",
    "RANK": "3",
    "LOCAL_RANK": "3",
    "MASTER_ADDR": "nowhere.invalid",
    "MASTER_PORT": "9",
}
PARAPHRASES = {task: [f"Which {task} has it? ({n})" * n for n in (1, 2, 3)] for task in TASKS}


def write_tasks(folder: Path) -> None:
    """Two tasks whose rows have very different lengths, an odd number of each."""
    for task, labels in zip(TASKS, (["small", "big"], ["red", "a deep blue"]), strict=True):
        (folder / task).mkdir(parents=True)
        for split, count in (("train", 11), ("test", 5)):
            rows = [
                {"sentence": f"{split} {n} " + "thing " * (n * n % 7), "label": labels[n % 2]}
                for n in range(count)
            ]
            (folder / task / f"{split}.json").write_text(json.dumps(rows))
    about = {
        task: {"instruction": f"Say which {task} it has.", "suffix": "Answer:", "labels": []}
        for task in TASKS
    }
    (folder / "instructions.json").write_text(json.dumps(about))


def run(folder: Path, launch: str, *overrides: str) -> Path:
    """The folder of a run of all stages under this setting of conf/launch."""
    place = folder / "_".join([launch, *overrides]).replace("=", "-").replace(".", "-")
    place.mkdir()
    conf = folder / "conf"
    settings = [
        "sequence=mine",
        "model=tiny_llama",
        "method=olora_sapo",
        f"launch={launch}",
        "paraphrase.source=file",
    ]
    settings += [
        "paraphrase.count=3",
        f"paraphrase.path={folder}/paraphrases.yaml",
        "selection.rows=7",
        "train.epochs=2",
    ]
    settings += [
        "train.learning_rate=0.01",
        "train.batch_tokens=500",
        "prompt.max_tokens=900",
        "evaluate.max_new_tokens=5",
    ]
    settings += [
        "lora.save_dtype=float32",
        "lora.dropout=0.1",
        "selection.batch_tokens=300",
        "evaluate.batch_tokens=400",
        *overrides,
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        compose_and_dump("params.yaml", str(conf), None, "config", "", settings)
        prepare.prepare()
        base_model.base_model()
        for task in TASKS:
            paraphrase.paraphrase(task)
        command = yaml.safe_load((place / "params.yaml").read_text())["launch"]["command"].split()
    command = [
        sys.executable if command[0] == "python" else f"{Path(sys.executable).parent}/{command[0]}",
        *command[1:],
    ]
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}/src", "OMP_NUM_THREADS": "1"}
    if launch != "single":
        environment |= SURROUNDING
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("launched.py")), *TASKS],
        cwd=place,
        env=environment,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launch")
    write_tasks(folder / "mine")
    (folder / "paraphrases.yaml").write_text(yaml.safe_dump(PARAPHRASES))
    for path in (REPOSITORY / "conf").glob("**/*.yaml"):
        target = folder / "conf" / path.relative_to(REPOSITORY / "conf")
        target.parent.mkdir(exist_ok=True, parents=True)
        target.write_text(path.read_text())
    sequence = {"name": "mine", "source": "folder", "path": str(folder / "mine"), "last": TASKS[-1]}
    tasks = {"size": {"after": "base"}, "colour": {"after": "size"}}
    (folder / "conf/sequence/mine.yaml").write_text(
        yaml.safe_dump(sequence | {"tasks": tasks}, sort_keys=False)
    )
    return folder


@pytest.fixture(scope="module")
def single(folder: Path) -> Path:
    return run(folder, "single")


def answers(place: Path) -> dict[str, list[dict[str, Any]]]:
    """Every line of data/predictions, but for the log-likelihoods: their last bits may differ."""
    found = {
        str(path.relative_to(place)): list(read_jsonl(path))
        for path in place.glob("data/predictions/*/*.jsonl")
    }
    for lines in found.values():
        for line in lines:
            assert line.pop("log_likelihood") < 0
    return found


def histories(place: Path) -> list[list[Step]]:
    """Of each task that the last model has learned."""
    return [entry.history for entry in read_lineage(place / model_folder("colour"), TASKS).tasks]


def scores(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The scores after every stage with their records, but for the adapters: their last bits may differ."""
    monkeypatch.chdir(place)
    stages = read_scores("colour", ["base", *TASKS])
    return [stage.model_dump(exclude={"run": {"adapter"}}) for stage in stages]


def assert_the_same(one: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in TASKS:
        mine, theirs = (ChosenPrompt.read(place / prompt_path(task)) for place in (one, other))
        assert mine.chosen == theirs.chosen
        losses = [[candidate.loss for candidate in prompt.candidates] for prompt in (mine, theirs)]
        assert None not in losses[0]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
        assert [c.place for c in mine.candidates] == [c.place for c in theirs.candidates]
    for mine, theirs in zip(histories(one), histories(other), strict=True):
        assert mine
        assert [step.step for step in mine] == [step.step for step in theirs]
        for name in ("loss", "grad_norm", "learning_rate"):
            values = [[getattr(step, name) for step in history] for history in (mine, theirs)]
            assert values[0] == pytest.approx(values[1], abs=1e-5)
    weights = [load_file(place / weights_path("colour")) for place in (one, other)]
    for name, tensor in weights[0].items():
        assert (tensor - weights[1][name]).abs().max() < 1e-5, name
    assert answers(one) == answers(other)
    assert len(answers(one)) >= 6
    for mine, theirs in zip(scores(one, monkeypatch), scores(other, monkeypatch), strict=True):
        for task in TASKS:
            for kind in ("scores", "scores_original_prompt"):
                assert mine[kind].pop(task) == pytest.approx(theirs[kind].pop(task), abs=1e-5)
        assert mine == theirs


@pytest.mark.parametrize("launch", ["ddp", "fsdp"])
def test_fault_08_two_processes_do_what_one_does(
    folder: Path, single: Path, launch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_the_same(single, run(folder, launch), monkeypatch)


def test_a_prefix_that_is_not_shared_changes_nothing_but_speed(
    folder: Path, single: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = run(folder, "single", "train.gradient_checkpointing=true")
    assert_the_same(single, other, monkeypatch)
