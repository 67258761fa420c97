"""Every stage of every method in one process: two architectures, tasks and paraphrases of one's own.

The same stages through DVC, on the default tasks, are in test_pipeline.py.
"""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from dvc.utils.hydra import compose_and_dump
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import base_model
import evaluate
import paraphrase
import prepare
import report
import select_prompt
import train
from curves import tensorboard_curves
from laboratory import REPOSITORY
from sapo.artifacts.base_model import BASE_FOLDER, read_base
from sapo.artifacts.candidates import Candidates, candidates_path
from sapo.artifacts.chosen_prompt import Candidate, ChosenPrompt, prompt_path, prompt_sha256
from sapo.artifacts.lineage import model_folder, read_lineage, weights_path
from sapo.artifacts.provenance import FOLDER, StageProvenance
from sapo.artifacts.scores import read_scores
from sapo.artifacts.summary import DETAILS, Summary
from sapo.artifacts.task import read_about
from sapo.config import load_params
from sapo.lora.current import apply_update
from sapo.lora.stack import load_adapter
from sapo.models.load import load_model, load_tokenizer
from sapo.runtime.files import read_json, sha256_file

CONF = REPOSITORY / "conf"
METHODS = ["lora_inc", "lora_inc_sapo", "olora", "olora_sapo"]
INSTRUCTIONS = {
    "colours": {
        "instruction": "Name the colour of the thing in the text: red or blue.",
        "suffix": "Answer red or blue.",
        "labels": ["red", "blue"],
    },
    "立场": {
        "instruction": "判断文本的态度：A.支持，B.反对。",
        "suffix": "只回答A或者B。",
        "labels": ["A", "B"],
    },
    "Code-150": {"instruction": "", "suffix": "Answer:", "labels": []},
}
NAMES = {"colours": "colours", "立场": "stance", "Code-150": "Code-150"}
PARAPHRASES = {
    "colours": [
        "Is what the text describes red, or is it blue?",
        "Say red if the thing described is red, blue if it is blue.",
    ],
    "stance": ["文本支持还是反对？支持选 A，反对选 B。", "A 表示支持，B 表示反对：文本属于哪一种？"],
}


def write_benchmark(folder: Path) -> None:
    """Tasks in the benchmarks' layout: English with labels, Chinese, and one without an instruction."""
    folder.mkdir()
    (folder / "instructions.json").write_text(
        json.dumps({NAMES[name]: about for name, about in INSTRUCTIONS.items()})
    )
    for name, about in INSTRUCTIONS.items():
        labels = about["labels"] or ["return x", "pass"]
        (folder / NAMES[name]).mkdir()
        for split, count in (("train", 6), ("test", 3)):
            rows = [{"sentence": f"{split} {name} {{{n}}}", "label": labels[n % 2]} for n in range(count)]
            (folder / NAMES[name] / f"{split}.json").write_text(
                json.dumps(rows, ensure_ascii=False), encoding="utf-8"
            )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """conf/ with one more sequence, and the tasks and paraphrases that it names."""
    folder = tmp_path_factory.mktemp("stages")
    write_benchmark(folder / "mine")
    (folder / "paraphrases.yaml").write_text(yaml.safe_dump(PARAPHRASES, allow_unicode=True))
    order = list(NAMES.values())
    sequence = {
        "name": "mine",
        "source": "folder",
        "path": str(folder / "mine"),
        "tasks": {task: {"after": after} for task, after in zip(order, ["base", *order], strict=False)},
        "last": order[-1],
    }
    conf = folder / "conf"
    conf.mkdir()
    for path in CONF.glob("**/*.yaml"):
        target = conf / path.relative_to(CONF)
        target.parent.mkdir(exist_ok=True)
        target.write_text(path.read_text())
    (conf / "sequence/mine.yaml").write_text(yaml.safe_dump(sequence, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def run_all(project: Path, model: str, method: str, *others: str) -> Summary:
    """The summary after all stages. others: settings that override those here."""
    overrides = [
        "sequence=mine",
        f"model={model}",
        f"method={method}",
        "paraphrase.source=file",
        "paraphrase.count=2",
    ]
    overrides += [
        f"paraphrase.path={project}/paraphrases.yaml",
        "train.learning_rate=0.01",
        "train.checkpoints=1",
    ]
    overrides += ["evaluate.max_new_tokens=3", "lora.save_dtype=float32", *others]
    compose_and_dump("params.yaml", str(project / "conf"), None, "config", "", overrides)
    prepare.prepare()
    base_model.base_model()
    evaluate.evaluate("base")
    for task in NAMES.values():
        paraphrase.paraphrase(task)
        select_prompt.select(task)
        train.train(task)
        evaluate.evaluate(task)
    report.report()
    return Summary.read(DETAILS)


def chosen(task: str) -> ChosenPrompt:
    return ChosenPrompt.read(prompt_path(task))


def assert_unmeasured(prompt: ChosenPrompt) -> None:
    """The original was chosen without a look at the model."""
    original = Candidate(instruction=prompt.original, original=True, loss=None, rows=0, place=None)
    assert (prompt.chosen, prompt.instruction, prompt.run) == (0, prompt.original, None)
    assert prompt.candidates == [original]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", ["tiny_qwen3", "tiny_llama"])
def test_every_stage_of_every_method_runs_on_both_architectures(
    project: Path, model: str, method: str
) -> None:
    summary = run_all(project, model, method)
    assert (summary.method, summary.model, summary.sequence) == (method, model, "mine")
    values = summary.values("rouge_l", "chosen")
    assert all(math.isfinite(values[name]) for name in ("AP", "BWT", "FWT"))
    lineage = read_lineage(model_folder("Code-150"), list(NAMES.values()))
    for entry, task in zip(lineage.tasks, NAMES.values(), strict=True):
        assert entry.selection == prompt_sha256(task)
        assert entry.prompt == chosen(task).text
    for task in ("colours", "stance"):
        prompt = chosen(task)
        losses = [candidate.loss for candidate in prompt.candidates]
        if method.endswith("_sapo"):
            assert [candidate.instruction for candidate in prompt.candidates[1:]] == PARAPHRASES[task]
            assert losses[prompt.chosen] == min(losses)
            assert sorted(candidate.place for candidate in prompt.candidates) == [1, 2, 3]
            assert prompt.candidates[prompt.chosen].place == 1
            assert len(set(losses)) == 3
            assert prompt.run
        else:
            assert_unmeasured(prompt)
    assert read_about("stance").language == "zh"

    assert_scored_as_stock_peft()


def assert_scored_as_stock_peft() -> None:
    """Fault 01: what stock PEFT loads and what is scored are one model, after three tasks."""
    tokenizer, ids = load_tokenizer(), torch.tensor([[1, 70, 80, 90, 100]])
    assert tokenizer.chat_template
    scored = load_model(BASE_FOLDER, "float32")
    apply_update(scored, load_adapter(model_folder("Code-150"), read_base().fingerprint))
    stock = PeftModel.from_pretrained(load_model(BASE_FOLDER, "float32"), str(model_folder("Code-150")))
    base = load_model(BASE_FOLDER, "float32")
    with torch.no_grad():
        torch.testing.assert_close(scored(ids).logits, stock(input_ids=ids).logits, atol=1e-4, rtol=0)
        assert (scored(ids).logits - base(ids).logits).abs().max() > 1e-3


def results() -> dict[str, bytes]:
    """Weights, predictions and scores: what a method does, whatever it is called."""
    places = ("models/*/adapter_*", "data/predictions/**/*.jsonl", "metrics/scores/*", "metrics/rows/*")
    return {str(path): path.read_bytes() for place in places for path in sorted(Path().glob(place))}


def weights(task: str) -> bytes:
    return weights_path(task).read_bytes()


@pytest.mark.parametrize("method", [["fixed"], ["replay", "method.replay=0.0"]], ids=lambda m: m[0])
def test_a_method_that_changes_nothing_gives_the_same_bytes_under_its_own_name(
    project: Path, method: list[str]
) -> None:
    run_all(project, "tiny_llama", "lora_inc")
    before = results()
    assert len(before) > 20
    assert run_all(project, "tiny_llama", *method).method == method[0]
    assert results() == before
    folder = model_folder("Code-150")
    assert read_lineage(folder).method.name == method[0]
    assert f"method `{method[0]}`" in (folder / "README.md").read_text()
    for script in ("select", "train"):
        kept = StageProvenance.read(FOLDER / f"{script}-stance.json")
        assert kept.params["method"]["name"] == method[0]


def test_a_fixed_candidate_or_a_text_of_ones_own_is_trained_and_nothing_is_measured(project: Path) -> None:
    run_all(project, "tiny_llama", "fixed", "method.candidate=2", "method.texts={Code-150: Write it.}")
    for task, text, listed in (
        ("colours", PARAPHRASES["colours"][1], 3),
        ("stance", PARAPHRASES["stance"][1], 3),
        ("Code-150", "Write it.", 2),
    ):
        prompt = chosen(task)
        assert (prompt.instruction, prompt.candidates[prompt.chosen].instruction) == (text, text)
        assert (prompt.run, len(prompt.candidates)) == (None, listed)
        assert {(one.loss, one.rows, one.place) for one in prompt.candidates} == {(None, 0, None)}
    asked = read_lineage(model_folder("Code-150")).asked()
    assert [prompt.instruction for prompt in asked.values()] == [
        chosen(t).instruction for t in NAMES.values()
    ]


def test_joint_trains_one_lora_from_the_base_model_on_all_rows(project: Path) -> None:
    run_all(project, "tiny_llama", "lora_inc")
    alone = weights("colours")
    run_all(project, "tiny_llama", "joint")
    assert weights("colours") == alone
    with_all = weights("stance")
    # Another adapter before it with the same record: nothing of its weights is used
    other = {name: tensor + 1 for name, tensor in load_file(weights_path("colours")).items()}
    save_file(other, weights_path("colours"), metadata={"format": "pt"})
    train.train("stance")
    assert weights("stance") == with_all
    assert_one_lora([[], [6], [6, 6]])


def test_seq_lora_trains_one_lora_on(project: Path) -> None:
    run_all(project, "tiny_llama", "lora_inc")
    alone = weights("colours")
    run_all(project, "tiny_llama", "seq_lora")
    assert weights("colours") == alone
    assert_one_lora([[], [], []])
    settings = Path("params.yaml").read_text()
    Path("params.yaml").write_text(settings.replace("learning_rate: 0.01", "learning_rate: 1.0e-12"))
    train.train("stance")
    before, after = (load_file(weights_path(task)) for task in ("colours", "stance"))
    for name, tensor in before.items():  # a training that hardly moves leaves what it started from
        torch.testing.assert_close(after[name], tensor, rtol=0, atol=1e-9)


def assert_one_lora(earlier: list[list[int]]) -> None:
    """After each task the adapter is one LoRA, as stock PEFT loads it; so many earlier rows were read."""
    params, lineage = load_params(), read_lineage(model_folder("Code-150"), list(NAMES.values()))
    assert [[one.rows for one in entry.run.earlier] for entry in lineage.tasks] == earlier
    assert [entry.rows for entry in lineage.tasks] == [6, 6, 6]
    for task in NAMES.values():
        config = read_json(model_folder(task) / "adapter_config.json")
        assert (config["r"], config["lora_alpha"]) == (params.lora.r, params.lora.alpha)
    assert "It holds one LoRA of rank" in (model_folder("Code-150") / "README.md").read_text()
    assert_scored_as_stock_peft()


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("lora_inc_sapo", "adapter=joint"),
        ("lora_inc_sapo", "adapter=single"),
        ("olora_sapo", "replay=0.4"),
    ],
)
def test_adapters_and_replay_work_with_sapo(project: Path, method: str, change: str) -> None:
    run_all(project, "tiny_llama", method, f"method.{change}")
    for number, task in enumerate(("colours", "stance")):
        prompt = chosen(task)
        losses = [candidate.loss for candidate in prompt.candidates]
        assert losses[prompt.chosen] == min(losses)
        assert prompt.run
        before = list(NAMES.values())[number - 1]
        assert prompt.run.adapter == (sha256_file(weights_path(before)) if number else None)
    entries = read_lineage(model_folder("Code-150")).tasks
    for earlier in entries[2].run.earlier:
        entry = next(entry for entry in entries if entry.task == earlier.task)
        assert earlier.prompt == entry.prompt.sha256 == chosen(earlier.task).text.sha256
        assert earlier.rows == (3 if "replay" in change else 6)
    assert len(entries[2].run.earlier) == (0 if "single" in change else 2)
    assert_scored_as_stock_peft()


@pytest.mark.parametrize("method", ["olora", "lora_inc_sapo"])
def test_a_bfloat16_model_trains_in_float32_as_the_public_code_does(project: Path, method: str) -> None:
    """The recipe `superni_as_run`: what a model is scored and answers in stays its own."""
    # A recipe's own numbers, where run_all has others; the last of two values counts
    as_run = ["recipe=superni_as_run", "train.learning_rate=1e-4", "model.dtype=bfloat16"]
    run_all(project, "tiny_llama", method, *as_run)
    for entry in read_lineage(model_folder("Code-150")).tasks:
        rates = [step.learning_rate for step in entry.history]
        assert rates[:2] == [0, 0]
        assert rates[2] == pytest.approx(1e-4 / 3)
        assert rates[8:] == [1e-4, 1e-4]
        settings = entry.run.settings
        assert settings.dtype == "bfloat16"
        assert settings.train["dtype"] == "float32"
        assert settings.orthogonal_weight == (4.0 if method == "olora" else 0.0)


def test_fault_17_a_task_without_an_instruction_keeps_it_and_asks_for_no_paraphrase(project: Path) -> None:
    run_all(project, "tiny_llama", "lora_inc_sapo")
    collected = Candidates.read(candidates_path("Code-150"))
    assert collected == Candidates(task="Code-150", source="none", candidates=[""], api=None)
    assert chosen("Code-150").instruction == ""
    assert_unmeasured(chosen("Code-150"))


def test_a_second_sequence_starts_from_the_adapter_of_the_first(project: Path) -> None:
    """Zero-shot answers go on where the first run ended, and the new adapter is one of base and adapter."""
    run_all(project, "tiny_llama", "lora_inc_sapo")
    ended, bare = read_scores("Code-150", ["base", *NAMES.values()])[-1], read_base()
    shutil.copytree(model_folder("Code-150"), "first")
    run_all(project, "tiny_llama", "lora_inc_sapo", "model.adapter=first")
    assert yaml.safe_load(Path("params.yaml").read_text())["model"]["adapter_path"] == "first"
    started = read_scores("base", ["base"])[0]
    assert started.scores == ended.scores_original_prompt
    base, lineage = read_base(), read_lineage(model_folder("Code-150"), list(NAMES.values()))
    assert base.fingerprint not in (bare.fingerprint, None)
    assert base.sha256 == bare.sha256
    assert base.adapter
    assert lineage.base.adapter == base.adapter.sha256
    assert lineage.tasks[0].run.base == base.fingerprint

    ids = torch.tensor([[1, 70, 80, 90, 100]])
    ours = load_model(BASE_FOLDER, "float32")
    apply_update(ours, load_adapter(model_folder("Code-150"), base.fingerprint))
    plain = AutoModelForCausalLM.from_pretrained(BASE_FOLDER, dtype=torch.float32)
    first = PeftModel.from_pretrained(plain, "first").merge_and_unload()
    stock = PeftModel.from_pretrained(first, str(model_folder("Code-150"))).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, stock(input_ids=ids).logits, atol=1e-4, rtol=0)


def test_a_training_that_is_tracked_leaves_the_same_bytes_and_its_curves(project: Path) -> None:
    run_all(project, "tiny_llama", "lora_inc")
    places = [model_folder("colours"), model_folder("stance"), Path("plots/train")]
    before = {path: path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()}
    listed = set(Path().iterdir())
    settings = yaml.safe_load(Path("params.yaml").read_text())
    settings["tracking"]["report_to"] = ["tensorboard"]
    Path("params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    for task in ("colours", "stance"):
        train.train(task)
    after = {path: path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()}
    assert after == before
    assert len(before) > 8
    assert set(Path().iterdir()) - listed == {Path(".tracking")}
    assert "tracking" not in StageProvenance.read(FOLDER / "train-colours.json").params
    for entry in read_lineage(model_folder("stance"), ["colours", "stance"]).tasks:
        [folder] = Path(".tracking/tensorboard/lora_inc").glob(f"{entry.task}-*")
        curves = tensorboard_curves(folder)
        assert len(entry.history) > 1
        for name in ("loss", "learning_rate", "grad_norm"):
            values = [(step.step, pytest.approx(getattr(step, name), rel=1e-6)) for step in entry.history]
            assert curves[f"train/{name}"] == values


def test_checkpoints_of_other_settings_or_other_code_are_not_resumed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_all(project, "tiny_llama", "lora_inc")
    # As when each is killed after its last step
    monkeypatch.setattr("sapo.training.checkpoints.forget_checkpoints", lambda folder: None)
    settings = Path("params.yaml").read_text()
    train.train("colours")
    Path("params.yaml").write_text(settings.replace("learning_rate: 0.01", "learning_rate: 0.02"))
    train.train("colours")
    Path("params.yaml").write_text(settings)
    (tmp_path / "train.py").write_text("# other code")
    monkeypatch.setattr(train, "__file__", str(tmp_path / "train.py"))
    train.train("colours")
    assert len(list(Path(".checkpoints").glob("colours-*/checkpoint-*/whole"))) == 3
