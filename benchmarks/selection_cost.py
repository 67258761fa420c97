"""What does SAPO add to a stage at the paper's settings? Rates are measured, the whole stage is extrapolated.

    python benchmarks/selection_cost.py

Timed are the scoring of --score-rows rows under --candidates instructions, and --steps optimiser steps, on
rows of the task. A stage scores 21 candidates on 250 rows (`selection.rows`) and trains on 1000 rows x 10
epochs (`data.train_rows`, `train.epochs`), 64 rows a step, as recipe `superni` says. How many of the row
evaluations `bounded` and `race` need was counted by search.py; it is read from its result file.
"""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import HERE, compose, load_tasks, options, record, set_up, table
from timing import alternate

from sapo.candidates.bank import from_bank
from sapo.runtime.files import read_json
from sapo.selection.loss import RowLosses
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora

CANDIDATES = 21  # the original and 20 paraphrases


def main() -> None:
    parser = options(__doc__, tasks=["task195"], rows=192, name="selection_cost")
    parser.add_argument("--score-rows", type=int, default=48, help="(default: %(default)s)")
    parser.add_argument("--candidates", type=int, default=4, help="scored (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="of training (default: %(default)s)")
    parser.add_argument("--counted", default="search2", help="result of search.py (default: %(default)s)")
    arguments = parser.parse_args()
    recipe = compose(["recipe=superni"])
    setup = set_up(["recipe=superni", f"lora.dropout={recipe.lora.dropout}", *arguments.overrides])
    params = setup.params
    results, lines = [], []
    for task in load_tasks(arguments.tasks, arguments.url, arguments.rows):
        texts = [task.instruction, *from_bank(task, 20)][: arguments.candidates]
        scored = [setup.rows(task, text)[: arguments.score_rows] for text in texts]
        train = params.train.model_copy(update={"epochs": 1, "checkpoints": 1})
        trained = setup.rows(task)[: arguments.steps * train.batch_size]

        def score(scored: Any = scored) -> Callable[[], Any]:
            model = setup.model()
            budget = params.selection.batch_tokens
            return lambda: [RowLosses(model, rows, setup.pad, budget)(range(len(rows))) for rows in scored]

        def steps(rows: Any = trained, train: Any = train) -> Callable[[], Any]:
            model = new_lora(setup.model(), params.lora, params.model.target_modules, params.seed)
            folder = Path(tempfile.mkdtemp()) / "checkpoints"
            return lambda: train_task(
                model, rows, train=train, seed=params.seed, pad=setup.pad, checkpoints=folder
            )

        seconds, _ = alternate({"scoring": score, "training": steps}, arguments.repeats)
        row_score = statistics.median(seconds["scoring"]) / sum(map(len, scored))
        row_train = statistics.median(seconds["training"]) / len(trained)
        training = row_train * params.data.train_rows * params.train.epochs
        every = CANDIDATES * params.selection.rows
        for kind, work in counted(arguments.counted).items():
            scoring = row_score * every * work
            lines.append(
                {"task": task.name, "search": kind, "evaluations": round(every * work)}
                | {"scoring_s": scoring, "training_s": training}
                | {"share_%": 100 * scoring / (scoring + training)}
            )
        results.append({"task": task.name, "seconds": seconds, "s_a_row": [row_score, row_train]})
    table(lines)
    record(arguments, params, [*results, *lines])


def counted(name: str) -> dict[str, float]:
    """The mean share of all row evaluations that each search asked for."""
    found = read_json(HERE / "results" / f"{name}.json")["results"]
    selections = [selection for result in found for selection in result["selections"]]
    return {kind: statistics.fmean(one[kind]["work"] for one in selections) for kind in selections[0]}


if __name__ == "__main__":
    main()
