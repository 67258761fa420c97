"""select TASK: measure each candidate's loss under the model as it is now, choose one -> data/prompts/TASK.json."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sapo.files import DataError, read_object, write_json
from sapo.models import read_base
from sapo.parallel import is_main
from sapo.params import Params, check_task, load_params
from sapo.provenance import write_provenance
from sapo.records import WEIGHTS, selection_record
from sapo.search import search
from sapo.selection import choose, ranks
from sapo.stage import run
from sapo.tasks import Task, load_task


def select(name: str) -> None:
    params = load_params()
    check_task(params, name)
    task = load_task(f"data/tasks/{name}")
    found = f"data/paraphrases/{name}.json"
    candidates: list[str] = read_object(found, candidates=list)["candidates"]
    if candidates[:1] != [task.instruction] or not all(isinstance(text, str) for text in candidates):
        raise DataError(f"{found} must list the task's instruction and then other texts: run `dvc repro paraphrase@{name}`")
    selector, after = params.method.selector, params.sequence.tasks[name].after
    number = min(params.selection.rows, len(task.train))
    kind = params.selection.search if selector == "sapo" else "exhaustive"  # the controls need every candidate's loss
    chosen = 0
    measured: list[dict[str, Any]] = [{"loss": None, "rows": 0, "rank": None} for _ in candidates]
    record = None  # of what decided the losses, where any was measured
    if selector != "original" and len(candidates) > 1:
        best, measured = measure(params, task, candidates, after, kind)
        adapter = Path("models") / after / WEIGHTS if after != "base" else None
        record = selection_record(params, read_base("models/base")["fingerprint"], adapter, Path("data/tasks") / name)
        chosen = best if selector == "sapo" else choose(selector, [entry["loss"] for entry in measured], params.seed)
    entries = [
        {"instruction": text, "original": index == 0} | entry
        for index, (text, entry) in enumerate(zip(candidates, measured, strict=True))
    ]
    prompt = {
        "task": name,
        "after": after,
        "selector": selector,
        "search": kind,
        "rows": number,
        "chosen": chosen,
        "instruction": candidates[chosen],
        "original": task.instruction,
        "suffix": task.suffix,
        "language": task.language,
        "run": record,
        "candidates": entries,
    }
    if is_main():
        write_json(f"data/prompts/{name}.json", prompt)
        evaluations = sum(entry["rows"] for entry in measured)
        write_provenance(f"metrics/provenance/select-{name}.json", params, candidates=len(entries), row_evaluations=evaluations)


def measure(params: Params, task: Task, candidates: list[str], after: str, kind: str) -> tuple[int, list[dict[str, Any]]]:
    """The best candidate under the model after stage `after`; of each its mean loss (nats a token), on how many rows, its rank.

    Candidates that the search has dropped were measured on fewer rows and have no rank.
    """
    from sapo.adapters import fold, load_adapter
    from sapo.models import load_model, load_tokenizer
    from sapo.parallel import shard
    from sapo.prompts import PromptEncoder
    from sapo.scoring import RowLosses

    tokenizer = load_tokenizer("models/base")
    model = load_model("models/base", params.model.dtype, "cpu" if params.launch.shard else None)
    if after != "base":
        learned = params.sequence.order[: params.sequence.order.index(task.name)]
        fold(model, load_adapter(Path("models") / after, read_base("models/base")["fingerprint"], learned))
    if params.launch.shard:
        shard(model)
    encoder = PromptEncoder(tokenizer, params.prompt.max_tokens, params.model.template_options)
    examples = task.train[: params.selection.rows]
    bar = tqdm(total=len(candidates) * len(examples), desc=f"{task.name}: {kind} search", unit="row", disable=not is_main())

    def losses_of(candidate: str) -> Callable[[Sequence[int]], list[float]]:
        rows = encoder.encode(candidate, task.suffix, task.language, examples, answers=True)
        row_losses = RowLosses(model, rows, encoder.end_of_turn, params.selection.batch_tokens)

        def measured(indices: Sequence[int]) -> list[float]:
            losses = row_losses(indices)
            bar.update(len(indices))
            return losses

        return measured

    best, losses = search(kind, [losses_of(candidate) for candidate in candidates], len(examples), params.selection.confidence)
    bar.close()
    tokens = [len(row.answer) for row in encoder.encode("", "", task.language, examples, answers=True)]
    means = [math.fsum(of.values()) / sum(tokens[row] for row in of) for of in losses]
    complete = [index for index, of in enumerate(losses) if len(of) == len(examples)]
    rank = dict(zip(complete, ranks([means[index] for index in complete]), strict=True))
    return best, [
        {"loss": mean, "rows": len(of), "rank": rank.get(i)} for i, (mean, of) in enumerate(zip(means, losses, strict=True))
    ]


if __name__ == "__main__":
    run(select)
