"""Settings that cannot be used: no params.yaml, wrong keys, types and ranges, sequences that are no chain."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import compose_and_dump

from broken import (
    CATALOGUED,
    DROP,
    FOUND,
    NESTED,
    REPOSITORY,
    Case,
    Change,
    a_folder,
    a_link,
    both,
    edited,
    encoded,
    gone,
    params,
    put,
    replaced,
)

UNUSABLE = "task1510_evalution_relation_extraction_ori"


def fixed(candidate: int | None = 0, texts: dict[str, Any] | None = None) -> Change:
    return params(method__selector="fixed", method__candidate=candidate, method__texts=texts)


# fmt: off
CASES = [
    Case("params missing", "prepare", gone("params.yaml"),
         r"params\.yaml is missing: run stages from the repository's top"),
    Case("params empty", "prepare", put("params.yaml", ""),
         r"params\.yaml cannot be used: params\.yaml: .*dictionary"),
    Case("params a list", "report", put("params.yaml", "- seed\n"),
         r"params\.yaml cannot be used: params\.yaml: .*dictionary"),
    Case("params a folder", "prepare", a_folder("params.yaml"),
         r"params\.yaml cannot be read as a file: Is a directory"),
    Case("params a dangling link", "prepare", a_link("params.yaml", "nowhere"), r"params\.yaml is missing"),
    Case("params a link to itself", "prepare", a_link("params.yaml", "params.yaml"),
         r"params\.yaml cannot be read as a file"),
    Case("params UTF-16", "prepare", encoded("params.yaml", "utf-16"),
         r"params\.yaml is not UTF-8 text .*save it as UTF-8"),
    Case("params UTF-16 unmarked", "prepare",
         lambda: put("params.yaml", Path("params.yaml").read_text().encode("utf-16-le"))(),
         r"params\.yaml holds NUL bytes, .*save it as UTF-8"),
    Case("params Latin-1", "prepare", encoded("params.yaml", "latin-1"),
         r"params\.yaml is not UTF-8 text .*save it as UTF-8"),
    Case("params of NUL bytes", "prepare", put("params.yaml", b"\0" * 512), r"params\.yaml holds NUL bytes"),
    Case("params with a tab", "prepare", replaced("params.yaml", "  train_rows", "\ttrain_rows"),
         r"params\.yaml is not valid YAML: line \d+"),
    Case("params unclosed", "prepare", replaced("params.yaml", "seed: 1", "seed: [1"),
         r"params\.yaml is not valid YAML: line \d+"),
    Case("params with a Python object", "prepare",
         replaced("params.yaml", "seed: 1", "seed: !!python/name:os.system"),
         r"params\.yaml is not valid YAML: line 1.*python/name"),
    Case("params of two documents", "prepare", replaced("params.yaml", "seed: 1", "seed: 1\n---"),
         r"params\.yaml is not valid YAML: line 2"),
    Case("params with an impossible date", "prepare", replaced("params.yaml", "seed: 1", "seed: 2001-99-99"),
         r"params\.yaml is not valid YAML: month"),
    Case("params nested too deep", "prepare", put("params.yaml", NESTED),
         r"params\.yaml is not valid YAML: .*recursion"),
    Case("params an unknown anchor", "prepare", replaced("params.yaml", "seed: 1", "seed: *nothing"),
         r"params\.yaml is not valid YAML: line 1.*nothing"),
    Case("params a key twice", "prepare", replaced("params.yaml", "seed: 1", "seed: 1\nseed: 2"),
         r'params\.yaml is not valid YAML: line 2, .*duplicate key "seed"'),
    Case("params an inner key twice", "train mood", replaced("params.yaml", "  alpha:", "  r: 8\n  alpha:"),
         r'params\.yaml is not valid YAML: line \d+, .*duplicate key "r"'),
    Case("params a task twice", "prepare",
         replaced("params.yaml", "    echo:\n", "    mood:\n      after: mood\n    echo:\n"),
         r'params\.yaml is not valid YAML: line \d+, .*duplicate key "mood"'),
    Case("params an unknown section", "prepare", params(trian={}), r"params\.yaml cannot be used: trian: "),
    Case("params an unknown key", "train mood", params(lora__rank=4),
         r"params\.yaml cannot be used: lora\.rank: "),
    Case("params a missing section", "report", params(launch=DROP),
         r"params\.yaml cannot be used: launch: Field required"),
    Case("params a missing key", "select_prompt mood", params(selection__rows=DROP),
         r"params\.yaml cannot be used: selection\.rows: Field required"),
    Case("several wrong settings", "prepare", params(seed=-1, lora__r=0),
         r"params\.yaml cannot be used: (?=.*seed: )(?=.*lora\.r: ).*; "),
    Case("rank a text", "train mood", params(lora__r="4"), r"lora\.r: .*integer"),
    Case("rank 0", "train mood", params(lora__r=0), r"lora\.r: .*greater than or equal to 1"),
    Case("rank negative", "train mood", params(lora__r=-4), r"lora\.r: "),
    Case("rank huge", "train mood", params(lora__r=10**30), r"lora\.r: .*65536"),
    Case("rank null", "train mood", params(lora__r=None), r"lora\.r: "),
    Case("rank a list", "train mood", params(lora__r=[4]), r"lora\.r: "),
    Case("alpha huge", "train mood", params(lora__alpha=10**400), r"lora\.alpha: .*2147483648"),
    Case("dropout 1", "train mood", params(lora__dropout=1.0), r"lora\.dropout: .*less than 1"),
    Case("dropout NaN", "train mood", params(lora__dropout=float("nan")), r"lora\.dropout: .*finite"),
    Case("learning rate infinite", "train mood", params(train__learning_rate=float("inf")),
         r"train\.learning_rate: .*finite"),
    Case("a schedule that needs more", "train mood", params(train__schedule="cosine_with_min_lr"),
         r"train\.schedule: .*'cosine_with_restarts'.* or 'deepspeed_warmup'"),
    Case("no step with a learning rate", "train mood",
         params(train__schedule="deepspeed_warmup", train__batch_size=1000, train__epochs=2),
         r"train\.schedule = deepspeed_warmup has learning rate 0 in all steps of this training \(2\)"),
    Case("learning rate 0", "train mood", params(train__learning_rate=0.0),
         r"train\.learning_rate: .*greater than 0"),
    Case("learning rate a word", "train mood", params(train__learning_rate="fast"),
         r"train\.learning_rate: .*number"),
    Case("learning rate that diverges", "train echo", params(train__learning_rate=1e38),
         r"(loss is (nan|inf)|not finite).*lower train\.learning_rate"),
    Case("epochs that never end", "train mood", params(train__epochs=10**9), r"train\.epochs: .*10000"),
    Case("batch size 0", "train mood", params(train__batch_size=0), r"train\.batch_size: "),
    Case("rows negative", "prepare", params(data__train_rows=-5), r"data\.train_rows: "),
    Case("rows 0", "prepare", params(data__test_rows=0), r"data\.test_rows: "),
    Case("rows a fraction", "prepare", params(data__train_rows=1.5), r"data\.train_rows: "),
    Case("seed negative", "prepare", params(seed=-1), r"seed: .*greater than or equal to 0"),
    Case("seed above NumPy's", "train mood", params(seed=2**32), r"seed: .*4000000000"),
    Case("seed true", "prepare", params(seed=True), r"seed: .*integer"),
    Case("confidence 1", "select_prompt mood", params(selection__confidence=1.0), r"selection\.confidence: "),
    Case("unknown search", "select_prompt mood", params(selection__search="fast"),
         r"selection\.search: .*'exhaustive'"),
    Case("unknown dtype", "evaluate base", params(model__dtype="float8"),
         r"model\.dtype: .*'float32' or 'bfloat16'"),
    Case("unknown saved dtype", "train mood", params(lora__save_dtype="int8"), r"lora\.save_dtype: "),
    Case("unknown engine", "evaluate base", params(evaluate__engine="llama.cpp"), r"evaluate\.engine: "),
    Case("unknown selector", "select_prompt mood", params(method__selector="best"), r"method\.selector: "),
    Case("paraphrases for nobody", "paraphrase mood", params(method__selector="original"),
         r"method: .*paraphrases must be true"),
    Case("a candidate beyond the last", "prepare", fixed(candidate=3),
         r"method\.candidate is 3, but the last candidate is number 2: raise paraphrase\.count"),
    Case("a candidate that the file lacks", "select_prompt mood",
         both(fixed(candidate=2), edited(FOUND, {"candidates.2": DROP})),
         r"mood has no candidate 2, its last one is number 1: choose another method\.candidate"),
    Case("a candidate for another selector", "prepare", params(method__candidate=1),
         r"candidate and texts belong to selector 'fixed'"),
    Case("a text of white space", "prepare", fixed(texts={"mood": " \n\u3000"}),
         r"method\.texts: .*the text for mood is empty: write an instruction"),
    Case("a text for a task of another sequence", "prepare", fixed(texts={"xsum": "Sum it up."}),
         r"method\.texts: 'xsum' is not a task of the sequence: it has mood, echo"),
    Case("a text that is a number", "prepare", fixed(texts={"mood": 7}),
         r"method\.texts\.mood: 7 is not a text in YAML"),
    Case("texts for some tasks alone", "prepare", fixed(candidate=None, texts={"mood": "Judge."}),
         r"method\.texts has no text for echo, and method\.candidate is null"),
    Case("replay of more than all", "prepare", params(method__replay=1.5), r"method\.replay: .*equal to 1"),
    Case("replay with joint", "train mood", params(method__adapter="joint", method__replay=0.1),
         r"replay must be 0 with adapter 'joint': it trains on all earlier rows anyway"),
    Case("O-LoRA's term with one LoRA", "train mood",
         params(method__adapter="single", method__orthogonal_weight=0.5),
         r"orthogonal_weight must be 0 with adapter 'single': there are no earlier LoRAs"),
    Case("negative lambda", "train mood", params(method__orthogonal_weight=-0.5),
         r"method\.orthogonal_weight: "),
    Case("no modules to adapt", "train mood", params(model__target_modules=[]), r"model\.target_modules: "),
    Case("template options a list", "evaluate base", params(model__template_options=["x"]),
         r"model\.template_options: "),
    Case("a wheel for no wheel model", "base_model",
         params(model__wheel={"requirement": "x==1", "sha256": "0" * 64, "member": "m"}), r"model: .*wheel"),
    Case("a hash that is none", "base_model",
         params(model__source="wheel", model__wheel={"requirement": "x==1", "sha256": "abc", "member": "m"}),
         r"model\.wheel\.sha256: "),
    Case("a branch for a commit", "base_model", params(model__source="hub", model__revision="main"),
         r"model: .*revision: .*40-digit commit"),
    Case("a password in the URL", "prepare", params(data__url="https://me:secret@host/x"),
         r"data\.url: (?!.*secret).*password"),
    Case("tasks in a circle", "prepare", params(sequence__tasks__mood__after="echo"),
         r"sequence: .*tasks\.mood\.after is 'echo' .*'base'"),
    Case("a task after itself", "prepare", params(sequence__tasks__echo__after="echo"),
         r"sequence: .*tasks\.echo\.after is 'echo' .*'mood'"),
    Case("a gap in the sequence", "prepare", params(sequence__tasks__mood=DROP),
         r"sequence: .*tasks\.echo\.after is 'mood' .*'base'"),
    Case("two tasks after base", "prepare", params(sequence__tasks__echo__after="base"),
         r"sequence: .*tasks\.echo\.after is 'base'"),
    Case("another last task", "prepare", params(sequence__last="mood"),
         r"sequence: .*last is 'mood' .*'echo'"),
    Case("no tasks", "prepare", params(sequence__tasks={}), r"sequence: .*at least one task"),
    Case("tasks a list", "prepare", params(sequence__tasks=["mood"]), r"sequence\.tasks: .*dictionary"),
    Case("a task that is a path", "prepare",
         params(sequence__tasks={"../x": {"after": "base"}}, sequence__last="../x"),
         r"sequence: .*'\.\./x' cannot be a task's name"),
    Case("a task called base", "prepare",
         params(sequence__tasks={"base": {"after": "base"}}, sequence__last="base"),
         r"sequence: .*'base' cannot be a task's name"),
    Case("a task that is a number", "prepare",
         params(sequence__tasks={2021: {"after": "base"}}, sequence__last="2021"),
         r"cannot be used: sequence\.tasks: the key 2021 is not a text in YAML: put it in quotes$"),
    Case("a home that is not expanded", "prepare", params(sequence__path="~/tasks"),
         r"sequence\.path: .*~ is not expanded: write the whole path, or \$\{oc\.env:HOME\}/tasks"),
    Case("a catalogued task that cannot be used", "prepare",
         params(sequence=CATALOGUED | {"tasks": {UNUSABLE: {"after": "base"}}, "last": UNUSABLE}),
         r"'task1510_evalution_relation_extraction_ori' cannot be used: its published instr"),
    Case("a tracker that is not installed", "prepare", params(tracking__report_to=["tensorboard", "mlflow"]),
         r"tracking\.report_to: mlflow is not installed: pip install mlflow, or take it out of the list"),
    Case("an unknown tracker", "prepare", params(tracking__report_to=["comet"]),
         r"tracking\.report_to\.0: Input should be 'tensorboard', 'wandb', 'mlflow' or 'dvclive'"),
    Case("a tracker twice", "prepare", params(tracking__report_to=["tensorboard", "tensorboard"]),
         r"tracking\.report_to: .*tensorboard is named twice"),
    Case("a tracker that is no list", "train mood", params(tracking__report_to="wandb"),
         r"tracking\.report_to: Input should be a valid list"),
    Case("no section for trackers", "train mood", params(tracking=DROP), r"tracking: Field required"),
    Case("an unknown source", "prepare", params(sequence__source="web"), r"sequence\.source: "),
    Case("a catalogued task that is none", "prepare",
         params(sequence=CATALOGUED | {"tasks": {"task19": {"after": "base"}}, "last": "task19"}),
         r"sequence: .*'task19'; known: .*task195"),
    Case("an embedded task that is none", "prepare", params(sequence__source="embedded"),
         r"sequence: .*'mood'; known: .*xsum"),
]
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_settings_that_cannot_be_used_are_named_and_change_no_output(
    case: Case, refused: Callable[[Case], None]
) -> None:
    refused(case)


def test_a_tracker_without_its_key_is_named_before_any_work(
    refused: Callable[[Case], None], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb is installed, as far as the settings look."""
    (workspace / "installed").mkdir()
    (workspace / "installed/wandb.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(workspace / "installed")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    wanted = params(tracking__report_to=["wandb"])
    message = r"tracking\.report_to: wandb has no key: set WANDB_API_KEY, or WANDB_MODE=offline"
    refused(Case("no key", "train mood", wanted, message))


@pytest.mark.parametrize(("group", "choice"), [("sequence", "trace"), ("model", "tiny_llama")])
def test_a_key_that_stands_twice_in_conf_is_refused_when_it_is_composed(
    group: str, choice: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    shutil.copytree(REPOSITORY / "conf", tmp_path / "conf")
    with (tmp_path / f"conf/{group}/{choice}.yaml").open("a") as stream:
        stream.write("\nname: again\nname: and again\n")
    written, conf = tmp_path / "params.yaml", tmp_path / "conf"
    with pytest.raises(Exception, match=r"(?s)duplicate key name.*|name.*duplicate"):
        compose_and_dump(str(written), str(conf), None, "config", "", [f"{group}={choice}"])
    assert not written.exists()
    record_property("input", "refused")
