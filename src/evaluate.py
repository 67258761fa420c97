"""evaluate TASK: the model after TASK answers every task -> metrics/scores/TASK.json (rows so far), data/predictions/TASK/.

`evaluate base` is the zero-shot stage: the base model, every task under its original instruction.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sapo.adapters import Adapter, fold, load_adapter
from sapo.answers import generate
from sapo.files import DataError, output_folder, read_object, write_json, write_jsonl
from sapo.metrics import answer_scores, exact_match, rouge_l
from sapo.models import load_model, load_tokenizer, read_base, weights_folder
from sapo.parallel import is_main, shard
from sapo.params import Params, check_task, load_params
from sapo.prompts import Encoded, PromptEncoder
from sapo.stage import run
from sapo.tasks import Task, load_task
from sapo.vllm_answers import vllm_engine


def evaluate(stage: str) -> None:
    params = load_params()
    tokenizer = load_tokenizer("models/base")
    earlier: list[dict[str, Any]] = []
    adapter: Adapter | None = None
    learned: dict[str, str] = {}  # task -> the instruction it was trained with
    if stage != "base":
        check_task(params, stage)
        done = params.sequence.order[: params.sequence.order.index(stage)]
        scores = f"metrics/scores/{params.sequence.tasks[stage].after}.json"
        earlier = read_object(scores, rows=list)["rows"]
        if (stages := [row.get("stage") for row in earlier if isinstance(row, dict)]) != ["base", *done]:
            raise DataError(f"{scores} holds the stages {stages}, expected {['base', *done]}: run `dvc repro`")
        adapter = load_adapter(Path("models") / stage, read_base("models/base")["fingerprint"], [*done, stage])
        learned = {entry["task"]: entry["prompt"]["instruction"] for entry in adapter.lineage["tasks"]}

    encoder = PromptEncoder(tokenizer, params.prompt.max_tokens, params.model.template_options)
    stop = {encoder.end_of_turn, tokenizer.eos_token_id}
    answers_of = answering(params, stage, adapter, encoder.end_of_turn)

    def answer(task: Task, instruction: str) -> list[str]:
        rows = encoder.encode(instruction, task.suffix, task.language, task.test, answers=False)
        length = min(task.max_new_tokens or params.evaluate.max_new_tokens, params.evaluate.max_new_tokens)
        return [text.strip() for text in tokenizer.batch_decode(answers_of(rows, stop, length), skip_special_tokens=True)]

    predictions: dict[str, tuple[Task, list[str]]] = {}  # file -> the task and its answers
    chosen, original = {}, {}
    for name in params.sequence.order:
        task = load_task(f"data/tasks/{name}")
        instruction = learned.get(name, task.instruction)
        answers = answer(task, instruction)
        predictions[f"{name}.jsonl"] = task, answers
        chosen[name] = original[name] = scores_of(task, answers)
        if instruction != task.instruction:
            answers = answer(task, task.instruction)
            predictions[f"{name}.original_prompt.jsonl"] = task, answers
            original[name] = scores_of(task, answers)
        if is_main():
            print(f"after {stage}, {name}: {chosen[name]}", flush=True)
    if not is_main():
        return
    with output_folder(Path("data/predictions") / stage) as folder:
        for file, (task, answers) in predictions.items():
            write_predictions(folder / file, task, answers)
    row = {"stage": stage, "scores": chosen, "scores_original_prompt": original}
    write_json(f"metrics/scores/{stage}.json", {"rows": [*earlier, row]})


def answering(
    params: Params, stage: str, adapter: Adapter | None, pad: int
) -> Callable[[Sequence[Encoded], set[int], int], list[list[int]]]:
    """What answers rows, given the stop tokens and the limit of new ones: the model of `stage` in the engine of the settings."""
    limit = params.prompt.max_tokens + params.evaluate.max_new_tokens
    if params.evaluate.engine == "vllm":
        return vllm_engine(weights_folder("models/base"), params.model.dtype, Path("models") / stage if adapter else None, limit)
    model = load_model("models/base", params.model.dtype, "cpu" if params.launch.shard else None)
    if adapter:
        fold(model, adapter)
    if params.launch.shard:
        shard(model)
    return lambda rows, stop, length: generate(model, rows, stop, pad, length, params.evaluate.batch_tokens, stage)


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
