"""Which tasks does the default model learn, and how much of them does it forget?

    python benchmarks/learnability.py                          # every candidate task, trained alone
    python benchmarks/learnability.py --tasks xsum newsgroups  # some of them
    python benchmarks/learnability.py --sequences reuters_r8,newsgroups,xsum --probes commonsense_qa
    python benchmarks/learnability.py --show                   # the tables of what was measured

Tasks are trained as method lora_inc does it, under their original instructions, and tested before the first
and after each. Results are kept as they come: the same command goes on from there, and `--again` measures
anew. Settings (-S) are those of conf/; results of different ones are kept side by side. Updates are added to
a float32 model as they were trained, not rounded to lora.save_dtype.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from candidate_tasks import NAMES, load
from common import HERE, Setup, base_folder, compose, once, write_record
from transformers import PreTrainedModel

from sapo.analysis.answer_metrics import row_scores
from sapo.analysis.comparison import telling
from sapo.analysis.continual import continual_metrics, transfer
from sapo.analysis.intervals import RESAMPLES, interval, resampled_means
from sapo.answers import greedy
from sapo.artifacts.task import Task
from sapo.config import Params
from sapo.models.load import load_tokenizer
from sapo.prompts.encoder import PromptEncoder
from sapo.runtime.files import sha256_json
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora

SHORT = {"rouge_l": "ROUGE-L", "exact_match": "exact match"}  # metrics in the tables
Scores = dict[str, list[float]]  # metric -> every test row's, in its unit


def answer(setup: Setup, model: PreTrainedModel, task: Task) -> tuple[Scores, list[str]]:
    """Each test row's scores, and the first answers."""
    stop = {setup.encoder.end_of_turn, setup.tokenizer.eos_token_id} - {None}
    settings = setup.params.evaluate
    length = min(task.max_new_tokens or settings.max_new_tokens, settings.max_new_tokens)
    rows = setup.encoder.encode(task.instruction, task.suffix, task.language, task.test, answers=True)
    found, likelihoods = greedy.answer(model, rows, stop, setup.pad, length, settings.batch_tokens, task.name)
    texts = [text.strip() for text in setup.tokenizer.batch_decode(found, skip_special_tokens=True)]
    references = [example.references for example in task.test]
    return row_scores(texts, references, likelihoods, task.name), texts[:5]


def learn(
    setup: Setup, model: PreTrainedModel, task: Task, place: int
) -> tuple[PreTrainedModel, list[float]]:
    """The model with one more task learned, and every step's loss."""
    params = setup.params
    seed = params.seed + place
    adapted = new_lora(model, params.lora, params.model.target_modules, seed)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_task(
            adapted,
            setup.rows(task),
            train=params.train,
            seed=seed,
            pad=setup.pad,
            checkpoints=Path(folder) / "checkpoints",
        )
    merged: Any = adapted.merge_and_unload()
    return merged, [step.loss for step in trained.history]


def measure(setup: Setup, names: Sequence[str], probes: Sequence[str]) -> dict[str, Any]:
    """Train the tasks in order; every task and probe is tested before the first and after each."""
    data = setup.params.data
    tasks = [load(n, data.train_rows, data.test_rows, data.max_words, data.seed) for n in [*names, *probes]]
    model = setup.model()
    stages: list[dict[str, Any]] = []
    for place in range(len(names) + 1):
        losses, started, worked = [], perf_counter(), process_time()
        if place:
            model, losses = learn(setup, model, tasks[place - 1], place - 1)
        trained, used = perf_counter(), process_time()
        found = {task.name: answer(setup, model, task) for task in tasks}
        stages.append(
            {
                "after": names[place - 1] if place else "base",
                "training_s": round(trained - started, 1) if place else 0.0,
                "training_processor_s": round(used - worked, 1) if place else 0.0,
                "answers_s": round(perf_counter() - trained, 1),
                "answers_processor_s": round(process_time() - used, 1),
                "rows": {name: scores for name, (scores, _) in found.items()},
                "first_answers": {name: texts for name, (_, texts) in found.items()},
                "losses": losses,
            }
        )
    return {
        "labels": {task.name: [example.label for example in task.test] for task in tasks if task.labels},
        "trained_rows": {task.name: len(task.train) for task in tasks},
        "load": round(os.getloadavg()[0], 1),
        "stages": stages,
    }


def spread(values: Sequence[float]) -> str:
    """The bootstrap interval of the mean over test rows."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = interval(np.array(values)[drawn].mean(1), len(values))
    return f"[{low:.0f}, {high:.0f}]"


def alone(result: dict[str, Any]) -> dict[str, str]:
    """A line of the table of tasks that were trained alone."""
    [name], (before, after) = result["tasks"], result["stages"]
    cells = {"task": f"`{name}`", "rows": str(result["trained_rows"][name])}
    for metric, label in SHORT.items():
        old, new = before["rows"][name][metric], after["rows"][name][metric]
        gain = [b - a for a, b in zip(old, new, strict=True)]
        cells[f"{label}: base"] = f"{np.mean(old):.0f}"
        cells[f"{label}: alone"] = f"{np.mean(new):.0f} {spread(new)}"
        cells[f"{label}: gain"] = f"{np.mean(gain):+.0f} {spread(gain)}"
    shares = Counter(result["labels"].get(name, []))
    cells["chance"] = f"{100 / len(shares):.0f}" if shares else ""
    cells["majority"] = f"{100 * max(shares.values()) / shares.total():.0f}" if shares else ""
    cells["training (s)"] = f"{after['training_s']:.0f}"
    cells["processor (s)"] = f"{after['training_processor_s']:.0f}"
    return cells | {"settings": " ".join(result["settings"]) or "default"}


def matrix(result: dict[str, Any]) -> str:
    """The scores after each task of a sequence, and the metrics of forgetting; ROUGE-L / exact match."""
    tested = [*result["tasks"], *result["probes"]]
    rows = []
    for stage in result["stages"]:
        means = {t: [f"{np.mean(stage['rows'][t][metric]):.0f}" for metric in SHORT] for t in tested}
        times = {"training (s)": f"{stage['training_s']:.0f}", "answers (s)": f"{stage['answers_s']:.0f}"}
        rows.append({"after": stage["after"]} | {t: " / ".join(both) for t, both in means.items()} | times)
    lines = [f"{' -> '.join(result['tasks'])}; {' '.join(result['settings']) or 'the defaults'}"]
    lines += ["", *markdown(rows), ""]
    for metric, label in SHORT.items():
        table = {
            t: np.array([[stage["rows"][t][metric]] for stage in result["stages"]]) for t in result["tasks"]
        }
        means = np.concatenate([of.mean(-1) for of in table.values()], axis=1)
        told = ", ".join(
            f"{key} {value:.1f}" for key, value in continual_metrics(means[0], means[1:]).items()
        )
        fewest = min(of.shape[-1] for of in table.values())
        drawn = {key: interval(v[0], fewest) for key, v in transfer(resampled_means(table)).items()}
        ends = ", ".join(f"{key} [{drawn[key][0]:.0f}, {drawn[key][1]:.0f}]" for key in ("AP", "forgetting"))
        lines.append(f"{label}: {told}; {ends}")
    return "\n".join(lines)


def markdown(rows: Sequence[dict[str, str]]) -> list[str]:
    """The lines of a table of rows with the same keys."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *[list(row.values()) for row in rows]]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def show(results: Sequence[dict[str, Any]]) -> None:
    """Print the table of tasks trained alone, and the matrix of each sequence."""
    if singles := [alone(result) for result in results if len(result["tasks"]) == 1]:
        print("", *markdown(singles), sep="\n")
    for result in results:
        if len(result["tasks"]) > 1:
            print("", matrix(result), sep="\n")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="*", default=NAMES, help="trained alone (default: %(default)s)")
    parser.add_argument("--sequences", nargs="*", default=[], metavar="A,B,C", help="trained in this order")
    parser.add_argument("--probes", nargs="*", default=[], help="tested with the sequences, never trained")
    parser.add_argument("-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    parser.add_argument("--show", action="store_true", help="print the tables and measure nothing")
    parser.add_argument("--name", default="learnability", help="the result is results/NAME.json")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="the folder for it")
    return parser.parse_args()


def decided_by(params: Params) -> str:
    """What the results of settings are told apart by: those that decide a number, whoever wrote them down."""
    used = params.model_dump(include={"model", "data", "prompt", "lora", "train", "evaluate"})
    return sha256_json([params.seed, telling(used)])


def main() -> None:
    """Measure what is asked for and not there yet, and print all."""
    arguments = options()
    path = arguments.out / f"{arguments.name}.json"
    results = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else []
    if arguments.show:
        show(results)
        return
    params = compose(arguments.overrides)
    keys = {item.partition("=")[0] for item in arguments.overrides}
    if {params.model.dtype, params.train.dtype or "float32"} != {"float32"} or "lora.save_dtype" in keys:
        sys.exit(
            "error: this trains in float32 and saves nothing: no model.dtype, train.dtype, lora.save_dtype"
        )
    folder = base_folder(params)
    tokenizer = load_tokenizer(folder)
    encoder = PromptEncoder(tokenizer, params.prompt.max_tokens, params.model.template_options)
    setup = Setup(params, folder, tokenizer, encoder)
    chains = [(names.split(","), arguments.probes) for names in arguments.sequences]
    for names, probes in chains or [([name], []) for name in arguments.tasks]:
        what = {"tasks": names, "probes": probes, "decided_by": decided_by(params)}
        same = [one for one in results if all(one.get(key) == value for key, value in what.items())]
        if not same or arguments.again:
            results = [one for one in results if one not in same]
            results.append(what | {"settings": once(arguments.overrides)} | measure(setup, names, probes))
            write_record(path, arguments, params, results)
            show(results[-1:])
    show(results)


if __name__ == "__main__":
    main()
