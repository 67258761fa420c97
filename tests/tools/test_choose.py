"""tools/choose.py measures as the pipeline's select does, and as stock PEFT, without its files."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from broken import run_stage
from laboratory import REPOSITORY
from sapo.artifacts.choice import Choice
from sapo.artifacts.chosen_prompt import ChosenPrompt, prompt_path
from sapo.artifacts.scores import read_scores
from sapo.artifacts.task import load_task
from sapo.models.load import load_tokenizer
from sapo.prompts.encoder import PromptEncoder
from tiny import peft_adapter

ABOUT = {
    "mood": {
        "instruction": "Say whether it is happy.",
        "suffix": "Answer yes or no.",
        "labels": ["yes", "no"],
    },
    "echo": {"instruction": "Repeat the last word.", "suffix": "", "labels": []},
}
TEXTS = {
    "mood": ["Is this text a happy one?", "Tell if there is joy in it.", "Happy or not: which?"],
    "echo": ["Give the final word.", "Which word ends the text?", "Write the word at the end."],
}
COMMON = "--candidates texts.yaml --rows 5 --max-tokens 400 --batch-tokens 1024 --json found.json"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two tasks, the first of which the tiny model has been trained on, both selected by the pipeline."""
    folder = tmp_path_factory.mktemp("choose")
    settings = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    settings["model"] = yaml.safe_load(
        (REPOSITORY / "conf/model/tiny_llama.yaml").read_text(encoding="utf-8")
    )
    settings["sequence"] = {"name": "mine", "source": "folder", "path": "tasks", "last": "echo"}
    settings["sequence"]["tasks"] = {"mood": {"after": "base"}, "echo": {"after": "mood"}}
    settings["paraphrase"] |= {"source": "file", "path": "texts.yaml", "count": 3}
    settings["prompt"]["max_tokens"], settings["evaluate"]["max_new_tokens"] = 400, 4
    settings["selection"]["rows"], settings["lora"]["save_dtype"] = 5, "float32"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        Path("texts.yaml").write_text(yaml.safe_dump(TEXTS))
        for task in ABOUT:
            Path("tasks", task).mkdir(parents=True)
            for split, count in (("train", 7), ("test", 4)):
                rows = [
                    {"sentence": f"{split} {'x' * n} {n}", "label": ["yes", "no"][n % 2]}
                    for n in range(count)
                ]
                Path("tasks", task, f"{split}.json").write_text(json.dumps(rows))
        Path("tasks/instructions.json").write_text(json.dumps(ABOUT))
        for stage in ("prepare", "base_model", "evaluate base", "paraphrase mood", "select_prompt mood"):
            run_stage(stage)
        for stage in ("train mood", "evaluate mood", "paraphrase echo", "select_prompt echo"):
            run_stage(stage)
        yield folder


def found(options: str) -> Choice:
    run_stage(f"choose {COMMON} {options}")
    return Choice.read("found.json")


def assert_as_selected(choice: Choice, task: str) -> None:
    prompt = ChosenPrompt.read(prompt_path(task))
    assert (choice.chosen, choice.instruction) == (prompt.chosen, prompt.instruction)
    assert len(choice.candidates) == 4
    for mine, theirs in zip(choice.candidates, prompt.candidates, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-6)
        assert mine.model_dump(exclude={"loss"}) == theirs.model_dump(exclude={"loss"})


@pytest.mark.parametrize("model", ["tiny_llama", "models/base"])
def test_the_losses_and_the_choice_are_those_of_the_pipeline(
    project: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = found(f"--model {model} --task tasks/mood")
    assert_as_selected(choice, "mood")
    assert choice.scores is None
    assert (choice.test, choice.test_rows, choice.max_new_tokens) == (None, 0, 0)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"choice: {choice.instruction}"
    losses = [float(line[1:].split()[1]) for line in printed[1:5]]
    assert losses == sorted(losses)
    assert [line[0] for line in printed[1:5]] == ["*", " ", " ", " "]
    [original] = [line for line in printed[1:5] if "(original)" in line]
    assert original.endswith(ABOUT["mood"]["instruction"])


def test_with_an_adapter_they_are_those_of_the_model_that_has_learned_it(project: Path) -> None:
    choice = found("--model tiny_llama --adapter models/mood --task tasks/echo")
    assert_as_selected(choice, "echo")
    bare = found("--model tiny_llama --task tasks/echo")
    assert abs(choice.candidates[0].loss - bare.candidates[0].loss) > 1e-3  # type: ignore[operator]
    assert choice.base.fingerprint != bare.base.fingerprint
    assert choice.base.adapter


def test_with_an_adapter_the_loss_is_that_of_stock_peft(project: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained("models/base", dtype=torch.float32)
    peft_adapter(plain, Path("stock"), target_modules="all-linear", r=2, use_rslora=True)
    choice = found("--model models/base --adapter stock --task tasks/mood")
    fresh = AutoModelForCausalLM.from_pretrained("models/base", dtype=torch.float32)
    model = PeftModel.from_pretrained(fresh, "stock").eval()
    encoder, task = PromptEncoder(load_tokenizer(), 400, {}), load_task("mood")
    for one in choice.candidates:
        total, tokens = 0.0, 0
        for row in encoder.encode(one.instruction, task.suffix, "en", task.train[:5], answers=True):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([row.prompt + row.answer])).logits[0].double()
            places = range(len(row.prompt) - 1, len(row.prompt) + len(row.answer) - 1)
            total -= sum(
                logits[place].log_softmax(-1)[token].item()
                for place, token in zip(places, row.answer, strict=True)
            )
            tokens += len(row.answer)
        assert one.loss == pytest.approx(total / tokens, rel=1e-5)


def test_the_answers_are_scored_as_by_the_pipeline(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice = found("--model tiny_llama --task tasks/mood --answer --max-new-tokens 4 --batch-tokens 2048")
    assert choice.scores
    assert choice.scores["original"] == read_scores("base", ["base"])[0].scores["mood"]
    assert (choice.test_rows, choice.max_new_tokens) == (4, 4)
    assert "4 test rows" in capsys.readouterr().out


def test_the_file_tells_the_rows_apart(project: Path) -> None:
    rows = [{"input": f"fruit {n}", "output": ["red"]} for n in range(9)]
    Path("task9_fruit.json").write_text(
        json.dumps({"Definition": ["Name the colour of the fruit."], "Instances": rows})
    )
    Path("lines.txt").write_text("What colour is the fruit?")
    common = "--model tiny_llama --task task9_fruit.json --candidates lines.txt --answer --max-new-tokens 1"
    first, same, drawn, fewer = (
        found(f"{common} {options}")
        for options in ("--test-rows 2", "--test-rows 2", "--test-rows 2 --seed 2", "--test-rows 1")
    )
    assert (first.seed, first.train, first.test) == (same.seed, same.train, same.test)
    assert drawn.seed == 2
    assert drawn.train != first.train
    assert drawn.test == first.test != fewer.test
    assert first.test is not None
    assert len(first.test) == len(first.train) == 64


@pytest.mark.parametrize("search", ["bounded", "race"])
def test_a_search_that_skips_rows_says_how_many_it_has_looked_at(project: Path, search: str) -> None:
    choice = found(f"--model tiny_llama --task tasks/mood --search {search} --rows 7")
    assert choice.candidates[choice.chosen].place == 1
    assert choice.selection.search == search
    assert all(
        one.loss is not None and math.isfinite(one.loss) and 0 < one.rows <= 7 for one in choice.candidates
    )


def test_a_raw_file_of_natural_instructions_and_lines_of_text_will_do(project: Path) -> None:
    instances = [{"input": f"fruit {n}", "output": ["red", "a red one"]} for n in range(9)]
    Path("task9_fruit.json").write_text(
        json.dumps({"Definition": ["Name the colour of the fruit."], "Instances": instances})
    )
    lines = ["What colour is the fruit?", "", "Name the colour of the fruit.", "Which colour has this fruit?"]
    Path("lines.txt").write_text("\n".join(lines))
    choice = found("--model tiny_llama --task task9_fruit.json --candidates lines.txt --test-rows 2")
    assert [one.instruction for one in choice.candidates] == [lines[2], lines[0], lines[3]]
    assert choice.candidates[0].original
    assert choice.rows == 5
