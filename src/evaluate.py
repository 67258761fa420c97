"""evaluate TASK: the model after TASK answers every task -> metrics/scores/TASK.json and metrics/rows/TASK.jsonl (means, and
each row's scores, of the stages so far), data/predictions/TASK/.

`evaluate base` is the zero-shot stage: the base model, every task under its original instruction.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from sapo.adapters import Adapter, fold, load_adapter
from sapo.answers import generate
from sapo.files import DataError, output_folder, read_jsonl, read_object, write_json, write_jsonl
from sapo.metrics import row_scores
from sapo.models import load_model, load_tokenizer, read_base, weights_folder
from sapo.parallel import is_main, shard
from sapo.params import Params, check_task, load_params
from sapo.prompts import Encoded, PromptEncoder
from sapo.provenance import write_provenance
from sapo.records import WEIGHTS, answers_record, prompt_hash
from sapo.stage import run
from sapo.tasks import Task, load_task
from sapo.vllm_answers import vllm_engine


def evaluate(stage: str) -> None:
    params = load_params()
    tokenizer = load_tokenizer("models/base")
    fingerprint = read_base("models/base")["fingerprint"]
    earlier: list[dict[str, Any]] = []
    earlier_rows: list[dict[str, Any]] = []
    adapter: Adapter | None = None
    learned: dict[str, str] = {}  # task -> the instruction it was trained with
    if stage != "base":
        check_task(params, stage)
        after = params.sequence.tasks[stage].after
        done = params.sequence.order[: params.sequence.order.index(stage)]
        before = f"metrics/scores/{after}.json"
        earlier = read_object(before, rows=list)["rows"]
        if (stages := [row.get("stage") for row in earlier if isinstance(row, dict)]) != ["base", *done]:
            raise DataError(f"{before} holds the stages {stages}, expected {['base', *done]}: run `dvc repro`")
        earlier_rows = list(read_jsonl(f"metrics/rows/{after}.jsonl"))
        adapter = load_adapter(Path("models") / stage, fingerprint, [*done, stage])
        learned = {entry["task"]: entry["prompt"]["instruction"] for entry in adapter.lineage["tasks"]}

    encoder = PromptEncoder(tokenizer, params.prompt.max_tokens, params.model.template_options)
    stop = {encoder.end_of_turn, tokenizer.eos_token_id}
    answers_of = answering(params, stage, adapter, encoder.end_of_turn)

    def answer(task: Task, instruction: str) -> list[str]:
        rows = encoder.encode(instruction, task.suffix, task.language, task.test, answers=False)
        length = min(task.max_new_tokens or params.evaluate.max_new_tokens, params.evaluate.max_new_tokens)
        return [text.strip() for text in tokenizer.batch_decode(answers_of(rows, stop, length), skip_special_tokens=True)]

    files: dict[str, list[dict[str, Any]]] = {}  # in data/predictions/STAGE/
    rows: list[dict[str, Any]] = []  # of metrics/rows/STAGE.jsonl
    asked, chosen, original = {}, {}, {}
    for name in params.sequence.order:
        task = load_task(f"data/tasks/{name}")
        instruction = learned.get(name, task.instruction)
        asked[name] = prompt_hash(instruction, task.suffix, task.language)
        prompts = {"chosen": instruction} | ({"original": task.instruction} if instruction != task.instruction else {})
        for prompt, text in prompts.items():
            answers = answer(task, text)
            scores = row_scores(answers, [example.label for example in task.test])
            files[f"{name}.jsonl" if prompt == "chosen" else f"{name}.original_prompt.jsonl"] = prediction_rows(
                task, answers, scores
            )
            short = {metric: [round(score, 4) for score in of_rows] for metric, of_rows in scores.items()}
            rows.append({"stage": stage, "task": name, "prompt": prompt} | short)
            original[name] = {metric: fmean(of_rows) for metric, of_rows in scores.items()}
            if prompt == "chosen":
                chosen[name] = original[name]
        if is_main():
            print(f"after {stage}, {name}: {chosen[name]}", flush=True)
    if not is_main():
        return
    with output_folder(Path("data/predictions") / stage) as folder:
        for file, lines in files.items():
            write_jsonl(folder / file, lines)
    weights = Path("models") / stage / WEIGHTS if adapter else None
    record = answers_record(params, fingerprint, weights, Path("data/tasks"), asked)
    row = {"stage": stage, "scores": chosen, "scores_original_prompt": original, "run": record}
    write_jsonl(f"metrics/rows/{stage}.jsonl", [*earlier_rows, *rows])
    write_json(f"metrics/scores/{stage}.json", {"rows": [*earlier, row]})
    count = sum(len(lines) for lines in files.values())
    write_provenance(f"metrics/provenance/evaluate-{stage}.json", params, tasks=len(asked), answers=count)


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


def prediction_rows(task: Task, predictions: list[str], scores: dict[str, list[float]]) -> list[dict[str, Any]]:
    """One object a test row, in the order of data/tasks/TASK/test.jsonl."""
    return [
        {"row": number, "prediction": prediction, "reference": example.label}
        | {metric: of_rows[number] for metric, of_rows in scores.items()}
        for number, (example, prediction) in enumerate(zip(task.test, predictions, strict=True))
    ]


if __name__ == "__main__":
    run(evaluate)
