"""select TASK: measure each candidate's loss under the model as it is now, choose one -> data/prompts/TASK.json."""

from pathlib import Path

from tqdm import tqdm

from sapo.files import read_json, write_json
from sapo.params import Params, check_task, load_params
from sapo.selection import choose, ranks
from sapo.stage import run
from sapo.tasks import Task, load_task


def select(name: str) -> None:
    params = load_params()
    check_task(params, name)
    task = load_task(f"data/tasks/{name}")
    candidates: list[str] = read_json(f"data/paraphrases/{name}.json")["candidates"]
    selector, after = params.method.selector, params.sequence.tasks[name].after
    losses = None
    if selector != "original" and len(candidates) > 1:
        losses = candidate_losses(params, task, candidates, after)
    chosen = choose(selector, losses, params.seed) if losses else 0
    ranked = ranks(losses) if losses else [None] * len(candidates)
    rows = [
        {"instruction": text, "original": index == 0, "loss": losses[index] if losses else None, "rank": ranked[index]}
        for index, text in enumerate(candidates)
    ]
    prompt = {
        "task": name,
        "after": after,
        "selector": selector,
        "rows": min(params.select.rows, len(task.train)),
        "chosen": chosen,
        "instruction": candidates[chosen],
        "original": task.instruction,
        "suffix": task.suffix,
        "language": task.language,
        "candidates": rows,
    }
    write_json(f"data/prompts/{name}.json", prompt)


def candidate_losses(params: Params, task: Task, candidates: list[str], after: str) -> list[float]:
    """The mean loss of every candidate over the task's first training rows, under the model after stage `after`."""
    from sapo.adapters import fold, load_adapter
    from sapo.models import load_model, load_tokenizer, read_base
    from sapo.prompts import PromptEncoder
    from sapo.scoring import prompt_loss

    tokenizer = load_tokenizer("models/base")
    model = load_model("models/base", params.model.dtype)
    if after != "base":
        fold(model, load_adapter(Path("models") / after, read_base("models/base")["fingerprint"]))
    encoder = PromptEncoder(tokenizer, params.prompt.max_tokens, params.model.template_options)
    examples = task.train[: params.select.rows]
    losses = []
    for candidate in tqdm(candidates, desc=f"{task.name}: loss of each candidate"):
        rows = encoder.encode(candidate, task.suffix, task.language, examples, answers=True)
        losses.append(prompt_loss(model, rows, encoder.end_of_turn, params.select.batch_size))
    return losses


if __name__ == "__main__":
    run(select)
