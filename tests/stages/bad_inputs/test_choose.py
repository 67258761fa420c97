"""What tools/choose.py cannot use."""

import shutil
from collections.abc import Callable

import pytest

from broken import CONFIG, LINEAGE, ROWS, TEXTS, Case, both, cut, edited, gone, put


def unchanged() -> None:
    """The files are as they should be."""


def asked(
    task: str = "tasks/mood", candidates: str = TEXTS, more: str = "", model: str = "tiny_llama"
) -> str:
    return f"choose --model {model} --task {task} --candidates {candidates} --max-tokens 400 {more}"


# fmt: off
CASES = [
    Case("nothing", "choose", unchanged, r"arguments are required: --model, --task, --candidates"),
    Case("an unknown search", asked(more="--search fast"), unchanged, r"--search: invalid choice: 'fast'"),
    Case("no rows", asked(more="--rows 0"), unchanged, r"--rows must be at least 1"),
    Case("no model", asked(model="nowhere"), unchanged,
         r"--model: .*/nowhere is not a Hugging Face model folder"),
    Case("a commit that is none", asked(more="--revision main"), unchanged,
         r"revision: a hub model needs the 40"),
    Case("a hub out of reach", asked(model="someone/model", more=f"--revision {'0' * 40}"), unchanged,
         r"--model: cannot fetch someone/model at 0{40}"),
    Case("template options that are no JSON", asked(more="--template-options {x}"), unchanged,
         r"--template-options is not JSON"),
    Case("template options that are a list", asked(more="--template-options [1]"), unchanged,
         r"--template-options: Input should be a valid dictionary"),
    Case("a context too short", asked(more="--max-tokens 4000"), unchanged,
         r"the model reads at most 2048 tokens .*: lower --max-tokens or --max-new-tokens"),
    Case("no room for a text", asked(more="--max-tokens 20"), unchanged, r"--max-tokens = 20 leaves no room"),
    Case("no adapter", asked(more="--adapter nowhere"), unchanged, r"nowhere holds no adapter_config\.json"),
    Case("an adapter of DoRA", asked(more="--adapter models/mood"), edited(CONFIG, {"use_dora": True}),
         r"models/mood/adapter_config\.json: use_dora = True cannot be used"),
    Case("an adapter of another base model", asked(more="--adapter models/mood"),
         edited(LINEAGE, {"base.fingerprint": "0" * 64}), r"models/mood was trained on tiny_llama \(0{12}\)"),
    Case("no task", asked(task="tasks/joy"), unchanged, r"tasks/instructions\.json has no entry 'joy'"),
    Case("a folder of tasks", asked(task="tasks"), unchanged,
         r"--task: .* holds no instructions\.json and no tasks"),
    Case("a task without rows", asked(), gone(ROWS), r"tasks/mood/train\.json is missing"),
    Case("rows cut off", asked(), cut(ROWS, 40), r"tasks/mood/train\.json is not valid JSON"),
    Case("a task there twice", asked(), put("tasks/mood.json", "{}"), r"mood is there twice"),
    Case("no candidates", asked(candidates="none.yaml"), unchanged, r"none\.yaml is missing"),
    Case("candidates of other tasks", asked(), edited(TEXTS, {"mood": {}}),
         r"has no list of instructions for mood"),
    Case("the original alone", asked(candidates="own.txt"),
         put("own.txt", "Say whether the text is happy.\n"),
         r"own\.txt lists no instruction beside the original"),
    Case("an empty file", asked(candidates="own.txt"), put("own.txt", "\n"), r"own\.txt has no list of"),
    Case("a candidate that is a number", asked(candidates="own.yaml"), put("own.yaml", "[3]"),
         r"own\.yaml, paraphrase 1: 3 is not a text in YAML"),
    Case("a candidate twice", asked(candidates="own.txt"),
         put("own.txt", "Is this text happy?\nis this text happy"),
         r"own\.txt, paraphrase 2: it is a duplicate"),
    Case("weights that are gone", asked(model="own"),
         both(lambda: shutil.copytree("models/base", "own"), gone("own/model.safetensors")),
         r"--model: .*/own is not .* with safetensors weights"),
    Case("a result that cannot be written", asked(more="--json tasks"), unchanged,
         r"--json tasks is a folder: name a file"),
]
# fmt: on


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_choose_cannot_use_is_named(case: Case, refused: Callable[[Case], None]) -> None:
    refused(case)
