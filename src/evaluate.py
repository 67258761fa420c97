"""evaluate TASK: the model after TASK answers every task -> metrics/scores/TASK.json (rows so far), data/predictions/TASK/.

`evaluate base` is the zero-shot stage: the base model, every task under its original instruction.
"""

from pathlib import Path
from typing import Any

from sapo.adapters import fold, load_adapter
from sapo.answers import generate
from sapo.files import output_folder, read_json, write_json, write_jsonl
from sapo.metrics import answer_scores, exact_match, rouge_l
from sapo.models import load_model, load_tokenizer, read_base
from sapo.params import check_task, load_params
from sapo.prompts import PromptEncoder
from sapo.stage import run
from sapo.tasks import Task, load_task


def evaluate(stage: str) -> None:
    params = load_params()
    tokenizer, model = load_tokenizer("models/base"), load_model("models/base", params.model.dtype)
    earlier: list[dict[str, Any]] = []
    learned: dict[str, str] = {}  # task -> the instruction it was trained with
    if stage != "base":
        check_task(params, stage)
        earlier = read_json(f"metrics/scores/{params.sequence.tasks[stage].after}.json")["rows"]
        adapter = load_adapter(Path("models") / stage, read_base("models/base")["fingerprint"])
        fold(model, adapter)
        learned = {entry["task"]: entry["prompt"]["instruction"] for entry in adapter.lineage["tasks"]}

    encoder = PromptEncoder(tokenizer, params.prompt.max_tokens, params.model.template_options)
    stop = {encoder.end_of_turn, tokenizer.eos_token_id}

    def answer(task: Task, instruction: str) -> list[str]:
        rows = encoder.encode(instruction, task.suffix, task.language, task.test, answers=False)
        length = min(task.max_new_tokens or params.evaluate.max_new_tokens, params.evaluate.max_new_tokens)
        answers = generate(model, rows, stop, encoder.end_of_turn, length, params.evaluate.batch_size, task.name)
        return [text.strip() for text in tokenizer.batch_decode(answers, skip_special_tokens=True)]

    chosen, original = {}, {}
    with output_folder(Path("data/predictions") / stage) as folder:
        for name in params.sequence.order:
            task = load_task(f"data/tasks/{name}")
            instruction = learned.get(name, task.instruction)
            predictions = answer(task, instruction)
            write_predictions(folder / f"{name}.jsonl", task, predictions)
            chosen[name] = original[name] = scores_of(task, predictions)
            if instruction != task.instruction:
                predictions = answer(task, task.instruction)
                write_predictions(folder / f"{name}.original_prompt.jsonl", task, predictions)
                original[name] = scores_of(task, predictions)
            print(f"after {stage}, {name}: {chosen[name]}", flush=True)
    row = {"stage": stage, "scores": chosen, "scores_original_prompt": original}
    write_json(f"metrics/scores/{stage}.json", {"rows": [*earlier, row]})


def scores_of(task: Task, predictions: list[str]) -> dict[str, float]:
    return answer_scores(predictions, [example.label for example in task.test])


def write_predictions(path: Path, task: Task, predictions: list[str]) -> None:
    """One line a test row, in the order of data/tasks/TASK/test.jsonl."""
    rows = [
        {
            "row": number,
            "prediction": prediction,
            "reference": example.label,
            "rouge_l": rouge_l(prediction, example.label),
            "exact_match": exact_match(prediction, example.label),
        }
        for number, (example, prediction) in enumerate(zip(task.test, predictions, strict=True))
    ]
    write_jsonl(path, rows)


if __name__ == "__main__":
    run(evaluate)
