"""select, train and evaluate in two processes (gloo, on the processor), with whole and with sharded weights: as in one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import compose_and_dump
from safetensors.torch import load_file

import base_model
import paraphrase
import prepare

REPOSITORY = Path(__file__).parent.parent
TASKS = ["size", "colour"]
PARAPHRASES = {task: [f"Which {task} has it? ({n})" * n for n in (1, 2, 3)] for task in TASKS}


def write_tasks(folder: Path) -> None:
    """Two tasks whose rows have very different lengths, an odd number of each."""
    for task, labels in zip(TASKS, (["small", "big"], ["red", "a deep blue"]), strict=True):
        (folder / task).mkdir(parents=True)
        for split, count in (("train", 11), ("test", 5)):
            rows = [{"sentence": f"{split} {n} " + "thing " * (n * n % 7), "label": labels[n % 2]} for n in range(count)]
            (folder / task / f"{split}.json").write_text(json.dumps(rows))
    about = {task: {"instruction": f"Say which {task} it has.", "suffix": "Answer:", "labels": []} for task in TASKS}
    (folder / "instructions.json").write_text(json.dumps(about))


def run(folder: Path, launch: str, *overrides: str) -> Path:
    """The folder of a run of all stages under this setting of conf/launch."""
    place = folder / "_".join([launch, *overrides]).replace("=", "-").replace(".", "-")
    place.mkdir()
    conf = folder / "conf"
    settings = ["sequence=mine", "model=tiny_llama", "method=olora_sapo", f"launch={launch}", "paraphrase.source=file"]
    settings += ["paraphrase.count=3", f"paraphrase.path={folder}/paraphrases.yaml", "selection.rows=7", "train.epochs=2"]
    settings += ["train.learning_rate=0.01", "train.batch_tokens=500", "prompt.max_tokens=900", "evaluate.max_new_tokens=5"]
    settings += ["lora.save_dtype=float32", "selection.batch_tokens=300", "evaluate.batch_tokens=400", *overrides]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        compose_and_dump("params.yaml", str(conf), None, "config", "", settings)
        prepare.prepare()
        base_model.base_model()
        for task in TASKS:
            paraphrase.paraphrase(task)
        command = yaml.safe_load((place / "params.yaml").read_text())["launch"]["command"].split()
    command = [sys.executable if command[0] == "python" else f"{Path(sys.executable).parent}/{command[0]}", *command[1:]]
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}/src", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(REPOSITORY / "tests/launched.py"), *TASKS], cwd=place, env=environment, text=True, capture_output=True
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
    (folder / "conf/sequence/mine.yaml").write_text(yaml.safe_dump(sequence | {"tasks": tasks}, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def single(folder: Path) -> Path:
    return run(folder, "single")


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def answers(place: Path) -> dict[str, str]:
    return {str(path.relative_to(place)): path.read_text("utf-8") for path in place.glob("data/predictions/*/*.jsonl")}


def assert_the_same(one: Path, other: Path) -> None:
    for task in TASKS:
        prompts = [read(place / f"data/prompts/{task}.json") for place in (one, other)]
        assert prompts[0]["chosen"] == prompts[1]["chosen"]
        losses = [[candidate["loss"] for candidate in prompt["candidates"]] for prompt in prompts]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
        assert [c["rank"] for c in prompts[0]["candidates"]] == [c["rank"] for c in prompts[1]["candidates"]]
    histories = [[entry["history"] for entry in read(place / "models/colour/lineage.json")["tasks"]] for place in (one, other)]
    for mine, theirs in zip(*histories, strict=True):
        assert [entry["step"] for entry in mine] == [entry["step"] for entry in theirs]
        for key in ("loss", "grad_norm", "learning_rate"):
            assert [entry[key] for entry in mine] == pytest.approx([entry[key] for entry in theirs], abs=1e-5)
    weights = [load_file(place / "models/colour/adapter_model.safetensors") for place in (one, other)]
    for name, tensor in weights[0].items():
        assert (tensor - weights[1][name]).abs().max() < 1e-5, name
    assert answers(one) == answers(other)
    assert len(answers(one)) >= 6
    scores = [read(place / "metrics/scores/colour.json")["rows"] for place in (one, other)]
    for row in (*scores[0], *scores[1]):
        del row["run"]["adapter"]  # its last bits may differ
    assert scores[0] == scores[1]


@pytest.mark.parametrize("launch", ["ddp", "fsdp"])
def test_fault_08_two_processes_do_what_one_does(folder: Path, single: Path, launch: str) -> None:
    assert_the_same(single, run(folder, launch))


def test_a_prefix_that_is_not_shared_changes_nothing_but_speed(folder: Path, single: Path) -> None:
    assert_the_same(single, run(folder, "single", "train.gradient_checkpointing=true"))
