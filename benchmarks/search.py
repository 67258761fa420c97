"""How often does a search over fewer rows make the exhaustive choice, what is lost, how much work is it?

    python benchmarks/search.py                    # 60 selections: 3 tasks x 2 states x 10 draws of 250 rows
    python benchmarks/search.py --rows 250 --draws 20    # more rows measured, more draws

For each task and state (the base model, and the model after --state-task) every candidate's loss of every row
is measured once, and kept in .work/. A selection is --select-rows of those rows, drawn with replacement; each
search then asks for the losses as it would ask the model, and its row evaluations are counted. The searches
are the pipeline's own (src/sapo/selection/search.py).
"""

import random
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common import WORK, Setup, load_tasks, options, record, set_up, table
from tqdm import tqdm
from transformers import PreTrainedModel

from sapo.artifacts.task import Task
from sapo.candidates.bank import from_bank
from sapo.runtime.files import read_json, sha256_json
from sapo.runtime.outputs import write_json
from sapo.selection.loss import RowLosses
from sapo.selection.search import search
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora

KINDS = ("exhaustive", "bounded", "race")
Table = list[list[float]]  # candidate x row: loss in nats


def state(setup: Setup, task: Task | None, rows: int) -> PreTrainedModel:
    """The base model, after training on a task where one is given."""
    if task is None:
        return setup.model()
    model = new_lora(setup.model(), setup.params.lora, setup.params.model.target_modules, setup.params.seed)
    train = setup.params.train.model_copy(update={"checkpoints": 1})
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        train_task(
            model,
            setup.rows(task)[:rows],
            train=train,
            seed=setup.params.seed,
            pad=setup.pad,
            checkpoints=checkpoints,
        )
    merged: Any = model.merge_and_unload()
    return merged.eval()


def measured(setup: Setup, model: PreTrainedModel, task: Task, title: str) -> Table:
    """The loss of every row under every candidate."""
    texts = [task.instruction, *from_bank(task, 20)]
    budget = setup.params.selection.batch_tokens
    return [
        RowLosses(model, setup.rows(task, text), setup.pad, budget)(range(len(task.train)))
        for text in tqdm(texts, desc=title)
    ]


def one_selection(losses: Table, drawn: Sequence[int], confidence: float) -> dict[str, dict[str, Any]]:
    """Of each search: what it chose, its excess over the lowest loss, its share of all row evaluations."""

    def of(candidate: list[float], rows: Sequence[int]) -> list[float]:
        return [candidate[drawn[row]] for row in rows]

    sums = [sum(candidate[row] for row in drawn) for candidate in losses]
    found = {}
    for kind in KINDS:
        best, seen = search(kind, [partial(of, candidate) for candidate in losses], len(drawn), confidence)
        work = sum(map(len, seen)) / (len(losses) * len(drawn))
        found[kind] = {"chosen": best, "excess_loss": sums[best] / min(sums) - 1, "work": work}
    return found


def main() -> None:
    parser = options(__doc__, tasks=["task195", "FOMC", "NumGLUE-cm"], rows=64, name="search")
    parser.add_argument(
        "--state-task", default="task273", help="what the second state has learned (default: %(default)s)"
    )
    parser.add_argument("--state-rows", type=int, default=48, help="from so many rows (default: %(default)s)")
    parser.add_argument(
        "--draws", type=int, default=10, help="selections of each task and state (default: %(default)s)"
    )
    parser.add_argument(
        "--select-rows", type=int, default=250, help="rows of a selection (default: %(default)s)"
    )
    arguments = parser.parse_args()
    setup = set_up(arguments.overrides)
    tasks = load_tasks(arguments.tasks, arguments.url, arguments.rows)
    [learned] = load_tasks([arguments.state_task], arguments.url, arguments.state_rows)
    results: list[dict[str, Any]] = []
    lines = []
    for name, trained in (("base", None), (f"after {learned.name}", learned)):
        model = None
        for task in tasks:
            key = sha256_json(
                [
                    setup.params.model_dump(include={"seed", "model", "prompt", "lora", "train"}),
                    name,
                    arguments.state_rows,
                ]
            )
            kept = WORK / "tables" / f"{task.name}-{arguments.rows}-{key[:12]}.json"
            if not kept.is_file():
                model = model or state(setup, trained, arguments.state_rows)
                write_json(kept, measured(setup, model, task, f"{task.name}, {name}"))
            losses: Table = read_json(kept)
            draw = random.Random(0)
            drawn = [
                [draw.randrange(arguments.rows) for _ in range(arguments.select_rows)]
                for _ in range(arguments.draws)
            ]
            found = [one_selection(losses, rows, setup.params.selection.confidence) for rows in drawn]
            results.append({"task": task.name, "state": name, "selections": found})
            for kind in KINDS[1:]:
                lines.append({"task": task.name, "state": name} | summed(found, kind))
    every = [selection for result in results for selection in result["selections"]]
    lines += [{"task": "all", "state": "all"} | summed(every, kind) for kind in KINDS[1:]]
    table(lines)
    record(arguments, setup.params, results)


def summed(selections: Sequence[dict[str, dict[str, Any]]], kind: str) -> dict[str, Any]:
    """How often a search made the exhaustive choice, its largest excess loss, its mean and largest work."""
    same = sum(one[kind]["chosen"] == one["exhaustive"]["chosen"] for one in selections)
    work = [one[kind]["work"] for one in selections]
    return {
        "search": kind,
        "same_choice": f"{same}/{len(selections)}",
        "most_excess_%": 100 * max(one[kind]["excess_loss"] for one in selections),
        "mean_work": sum(work) / len(work),
        "most_work": max(work),
    }


if __name__ == "__main__":
    main()
