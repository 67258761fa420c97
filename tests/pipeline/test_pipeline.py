"""The pipeline itself, through DVC, on the tiny model and two real tasks: what a user types and finds."""

import json
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest
import yaml
from peft import PeftModel

from laboratory import REPOSITORY, copy_of, experiment, read, run, stages_run
from sapo.artifacts.task import load_task
from sapo.config import Model
from sapo.lora.current import apply_update
from sapo.lora.stack import load_adapter
from sapo.models.load import load_model, load_tokenizer
from sapo.models.make import make_base
from sapo.prompts.encoder import PromptEncoder
from tiny import peft_adapter


@pytest.fixture(scope="module")
def project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(tiny_project, tmp_path_factory.mktemp("pipeline") / "project")


def test_one_run_leaves_every_output(project: Path) -> None:
    metrics = read(project / "metrics/details.json")
    assert (metrics["method"], metrics["model"], metrics["sequence"]) == (
        "lora_inc_sapo",
        "tiny_llama",
        "pair",
    )
    for metric in ("rouge_l", "exact_match", "rouge_1", "log_likelihood"):
        assert set(metrics[metric]) == {"AP", "BWT", "FWT", "BWT_final", "forgetting", "new_task"}
        assert all(isinstance(value, float | int) for value in metrics[metric].values())
    for name in ("matrix", "scores", "candidates", "training"):
        assert (project / f"plots/{name}.png").stat().st_size > 10_000
    for task in ("reuters_r8", "xsum"):
        prompt = read(project / f"data/prompts/{task}.json")
        losses = [candidate["loss"] for candidate in prompt["candidates"]]
        assert len(losses) == 3
        assert losses[prompt["chosen"]] == min(losses)
        assert sorted(candidate["place"] for candidate in prompt["candidates"]) == [1, 2, 3]
        assert prompt["instruction"] == prompt["candidates"][prompt["chosen"]]["instruction"]
        assert (project / f"plots/train/{task}/loss.tsv").read_text().startswith("step\tloss")
    assert not list(project.glob(".checkpoints/*/checkpoint-*"))
    shown = run(project, "dvc", "metrics", "show")
    assert all(name in shown for name in ("AP", "BWT", "FWT", "forgetting", "new_task"))
    assert "interval" not in shown  # lists: they stand in the file, and leave the table readable


def test_when_where_and_from_which_code_every_stage_ran_is_kept(project: Path) -> None:
    text = (project / "metrics/provenance.json").read_text()
    provenance = json.loads(text)
    head = run(project, "git", "rev-parse", "HEAD").strip()
    assert provenance["code"] == [{"revision": head, "dirty": False}]
    steps = [
        f"{script}-{task}" for task in ("reuters_r8", "xsum") for script in ("select", "train", "evaluate")
    ]
    assert list(provenance["stages"]) == ["evaluate-base", *steps]
    for name, stage in provenance["stages"].items():
        assert stage["seconds"] > 0
        assert stage["params"]["seed"] == 1
        assert stage["host"]["cores"] >= 1
        assert stage["samples"], name
    assert provenance["stages"]["train-xsum"]["samples"] == {"rows": 6, "steps": 1}
    for secret in (str(Path.home()), str(project), socket.gethostname()):
        assert secret not in text
    run(project, "git", "check-ignore", "-q", "metrics/provenance.json")


def test_a_model_in_a_folder_is_watched(project: Path, tiny_base: Path, tmp_path: Path) -> None:
    """New weights in the same folder: everything that read the old ones is made anew."""
    folder, own = copy_of(project, tmp_path / "project"), tmp_path / "own"
    shutil.copytree(tiny_base, own)
    folder_model = ("model.source=folder", f"model.id={own}")
    experiment(folder, *folder_model)
    before = read(folder / "metrics/scores/base.json")["stages"][0]["run"]["base"]
    assert stages_run(run(folder, "dvc", "repro")) == set()
    other = Model.model_validate(yaml.safe_load((REPOSITORY / "conf/model/tiny_llama.yaml").read_text()))
    make_base(other, own, seed=7)
    made = stages_run(run(folder, "dvc", "repro"))
    assert made >= {"base_model", "zero_shot", "select@reuters_r8", "train@xsum", "evaluate@xsum", "report"}
    scores = read(folder / "metrics/scores/xsum.json")["stages"]
    [fingerprint] = {stage["run"]["base"] for stage in scores}
    assert fingerprint == read(folder / "models/base/base.json")["fingerprint"] != before
    assert "base_model" not in stages_run(experiment(folder, *folder_model, "method=olora"))


def test_an_adapter_of_the_base_model_is_watched(project: Path, tiny_base: Path, tmp_path: Path) -> None:
    folder, own = copy_of(project, tmp_path / "project"), tmp_path / "own"
    prints = [read(folder / "models/base/base.json")["fingerprint"]]
    peft_adapter(load_model(tiny_base, "float32"), own, target_modules=["q_proj"])
    assert stages_run(experiment(folder, f"model.adapter={own}", options=("base_model",))) == {"base_model"}
    prints.append(read(folder / "models/base/base.json")["fingerprint"])
    assert stages_run(run(folder, "dvc", "repro", "base_model")) == set()
    peft_adapter(load_model(tiny_base, "float32"), own, seed=1, target_modules=["q_proj"])
    assert stages_run(run(folder, "dvc", "repro", "base_model")) == {"base_model"}
    prints.append(read(folder / "models/base/base.json")["fingerprint"])
    assert len(set(prints)) == 3
    stages = ["zero_shot", "select@reuters_r8", "train@xsum", "evaluate@xsum"]
    told = run(folder, "dvc", "status", *stages)
    for stage in stages:
        assert re.search(rf"^{stage}:\n(?:\t.*\n)*?\t\tmodified: +models/base", told, re.MULTILINE), told


def test_equal_seeds_give_equal_bits_and_other_provenance(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    results = {str(project / name) for name in (".dvc", "data", "metrics", "plots")}
    shutil.copytree(
        project, folder, ignore=lambda place, names: [name for name in names if f"{place}/{name}" in results]
    )
    for name in ("data/tasks", ".dvc/plots"):
        shutil.copytree(project / name, folder / name)
    shutil.rmtree(folder / "models/xsum")
    shutil.rmtree(folder / "models/reuters_r8")
    run(folder, sys.executable, "-c", ALL_STAGES)
    written = [
        p
        for kind in ("data", "models", "metrics", "plots")
        for p in (folder / kind).rglob("*")
        if p.is_file()
    ]
    assert len(written) > 30
    for path in written:
        place = path.relative_to(folder)
        if "provenance" in str(place):
            assert read(path) != read(project / place)
        else:
            assert path.read_bytes() == (project / place).read_bytes(), place


def test_the_plots_are_rendered_by_dvc(project: Path) -> None:
    run(project, "dvc", "plots", "show", "-o", "page")
    page = (project / "page/index.html").read_text()
    shutil.rmtree(project / "page")
    for title in (
        "ROUGE-L of each task (column)",
        "ROUGE-L over the stages",
        "Loss of each candidate",
        "Training loss of each",
    ):
        assert title in page
    assert "DVC_METRIC" not in page  # every anchor of the templates was filled


def test_predictions_are_those_of_stock_peft(project: Path) -> None:
    tokenizer = load_tokenizer(project / "models/base")
    model = PeftModel.from_pretrained(
        load_model(project / "models/base", "float32"), str(project / "models/xsum")
    )
    task, prompt = load_task(project / "data/tasks/xsum"), read(project / "data/prompts/xsum.json")
    encoder = PromptEncoder(tokenizer, 900, {})
    saved = [
        json.loads(line)
        for line in (project / "data/predictions/xsum/xsum.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(saved) == 3
    for row, line in zip(
        encoder.encode(prompt["instruction"], task.suffix, "en", task.test, answers=False), saved, strict=True
    ):
        out = model.generate(
            input_ids=model_input(row.prompt), max_new_tokens=4, do_sample=False, pad_token_id=0
        )
        assert (
            tokenizer.decode(out[0, len(row.prompt) :], skip_special_tokens=True).strip()
            == line["prediction"]
        )


def model_input(ids: list[int]):
    import torch

    return torch.tensor([ids])


def test_an_adapter_of_the_pipeline_is_refused_under_another_base(project: Path) -> None:
    from sapo.runtime.errors import OtherRunError

    with pytest.raises(OtherRunError, match="was trained on base model tiny_llama"):
        apply_update(
            load_model(project / "models/base", "float32"), load_adapter(project / "models/xsum", "another")
        )


def test_nothing_runs_twice_and_methods_come_back_from_the_run_cache(
    project: Path, two_methods: tuple[Path, str], tmp_path: Path
) -> None:
    assert not stages_run(run(project, "dvc", "repro"))
    assert "up to date" in run(project, "dvc", "status", "dvc.yaml")
    first = read(project / "metrics/cl.json")

    folder, output = copy_of(two_methods[0], tmp_path / "project"), two_methods[1]
    assert {"train@reuters_r8", "train@xsum", "evaluate@xsum", "report"} <= stages_run(output)
    assert not stages_run(output) & {"prepare", "base_model", "zero_shot"}
    prompt = read(folder / "data/prompts/xsum.json")
    assert prompt["instruction"] == prompt["original"]
    unmeasured = {"loss": None, "rows": 0, "place": None}
    assert prompt["candidates"] == [{"instruction": prompt["original"], "original": True} | unmeasured]

    kept = run(folder, "dvc", "exp", "list", "--name-only").split()
    compared = run(folder, sys.executable, "tools/compare.py", *kept, "workspace")
    assert "olora - lora_inc_sapo" in compared or "lora_inc_sapo - olora" in compared
    assert "test rows" in compared
    assert "one seed: nothing can be concluded about other seeds" in compared
    assert "no-such-rev" in run(folder, sys.executable, "tools/compare.py", "no-such-rev", fails=True)

    back = experiment(folder, "method=lora_inc_sapo")
    assert not [stage for stage in stages_run(back) if stage.startswith(("train@", "select@"))]
    assert read(folder / "metrics/cl.json") == first


def test_a_tracker_makes_nothing_run_again_and_changes_no_result(tiny_project: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_project, tmp_path / "project")
    params = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(params.replace("report_to: []", "report_to: [tensorboard]"))
    assert (folder / "params.yaml").read_text() != params
    assert "up to date" in run(folder, "dvc", "status", "dvc.yaml")
    assert not stages_run(run(folder, "dvc", "repro"))
    assert not (folder / ".tracking").exists()
    assert stages_run(run(folder, "dvc", "repro", "-f", "-s", "train@reuters_r8")) == {"train@reuters_r8"}
    before, after = (
        yaml.safe_load((place / "dvc.lock").read_text())["stages"]["train@reuters_r8"]
        for place in (tiny_project, folder)
    )
    assert (after["deps"], after["params"]) == (before["deps"], before["params"])
    results = [[out for out in lock["outs"] if "provenance" not in out["path"]] for lock in (before, after)]
    assert results[0] == results[1]
    assert len(results[0]) == 2
    assert list(folder.glob(".tracking/tensorboard/lora_inc_sapo/reuters_r8-*/events*"))
    assert ".tracking" not in run(folder, "git", "status", "--porcelain")


ALL_STAGES = """
import sys
sys.path.insert(0, "src")
import evaluate, paraphrase, report, select_prompt, train
evaluate.evaluate("base")
for task in ("reuters_r8", "xsum"):
    paraphrase.paraphrase(task)
    select_prompt.select(task)
    train.train(task)
    evaluate.evaluate(task)
report.report()
"""

WITHOUT_TORCH = """
import sys
sys.path.insert(0, "src")
import paraphrase, report, select_prompt
report.report()
paraphrase.paraphrase("xsum")
select_prompt.select("xsum")
loaded = {"torch", "transformers", "peft", "datasets", "accelerate"} & set(sys.modules)
sys.exit(f"needlessly imported: {loaded}" if loaded else 0)
"""


def test_stages_without_a_model_import_no_torch(project: Path, tmp_path: Path) -> None:
    """The bank's paraphrases, select with one candidate, the report."""
    folder = tmp_path / "copy"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".git", ".dvc"))
    shutil.copytree(project / ".dvc/plots", folder / ".dvc/plots")
    params = (folder / "params.yaml").read_text()
    original = params.replace("selector: sapo", "selector: original").replace(
        "paraphrases: true", "paraphrases: false"
    )
    assert "selector: original" in original
    (folder / "params.yaml").write_text(original)
    run(folder, sys.executable, "-c", WITHOUT_TORCH)
    assert len(read(folder / "data/prompts/xsum.json")["candidates"]) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.no_such_key=1", "no_such_key"),
        ("train.learning_rate=fast", "train.learning_rate"),
        ("lora.dropout=1.5", "lora.dropout"),
        ("+sequence.tasks.nonsense.after=xsum", "is called 'nonsense'"),
    ],
)
def test_wrong_settings_stop_the_run_before_any_work(project: Path, override: str, message: str) -> None:
    output = experiment(project, "data.seed=7", override, fails=True)
    assert message in output
    assert "training rows" not in output
    run(project, "git", "checkout", "-q", "--", "params.yaml")
