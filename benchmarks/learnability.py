"""Which tasks does the default model learn, and how much of them does it forget?

    python benchmarks/learnability.py                          # every candidate task, trained alone
    python benchmarks/learnability.py --tasks xsum newsgroups  # some of them
    python benchmarks/learnability.py --sequences reuters_r8,newsgroups,xsum --probes commonsense_qa
    python benchmarks/learnability.py --show                   # the tables of what was measured

Tasks are trained as method lora_inc does it, under their original instructions, and tested before the first
and after each. Results are kept as they come: the same command goes on from there, and `--again` measures
anew. Settings (-S) are those of conf/; results of different ones are kept side by side.
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from candidate_tasks import NAMES, load
from common import HERE, Setup, base_folder, compose, once, write_record
from transformers import PreTrainedModel

from sapo.analysis.answer_metrics import METRICS, row_scores
from sapo.analysis.continual import continual_metrics
from sapo.analysis.intervals import RESAMPLES, interval
from sapo.answers.greedy import generate
from sapo.artifacts.task import Task
from sapo.models.load import load_tokenizer
from sapo.prompts.encoder import PromptEncoder
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora

Scores = dict[str, list[float]]  # metric -> every test row's, percent


def answer(setup: Setup, model: PreTrainedModel, task: Task) -> tuple[Scores, list[str]]:
    """Each test row's scores, and the first answers."""
    stop = {setup.encoder.end_of_turn, setup.tokenizer.eos_token_id} - {None}
    settings = setup.params.evaluate
    length = min(task.max_new_tokens or settings.max_new_tokens, settings.max_new_tokens)
    rows = setup.rows(task, split="test")
    found = generate(model, rows, stop, setup.pad, length, settings.batch_tokens, task.name)
    texts = [text.strip() for text in setup.tokenizer.batch_decode(found, skip_special_tokens=True)]
    return row_scores(texts, [example.references for example in task.test]), texts[:5]


def learn(setup: Setup, model: PreTrainedModel, task: Task, place: int) -> tuple[PreTrainedModel, list[float]]:
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
        losses, started = [], perf_counter()
        if place:
            model, losses = learn(setup, model, tasks[place - 1], place - 1)
        trained = perf_counter()
        found = {task.name: answer(setup, model, task) for task in tasks}
        stages.append(
            {
                "after": names[place - 1] if place else "base",
                "training_s": round(trained - started, 1) if place else 0.0,
                "answers_s": round(perf_counter() - trained, 1),
                "rows": {name: scores for name, (scores, _) in found.items()},
                "first_answers": {name: texts for name, (_, texts) in found.items()},
                "losses": losses,
            }
        )
    return {
        "tasks": list(names),
        "probes": list(probes),
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


def alone(result: dict[str, Any]) -> str:
    """A line of the table of tasks that were trained alone."""
    [name], (before, after) = result["tasks"], result["stages"]
    labels = result["labels"].get(name)
    shares = Counter(labels or [])
    cells = [f"`{name}`", str(result["trained_rows"][name])]
    for metric in METRICS:
        old, new = before["rows"][name][metric], after["rows"][name][metric]
        gain = spread([b - a for a, b in zip(old, new, strict=True)])
        cells += [f"{np.mean(old):.0f}", f"{np.mean(new):.0f} {spread(new)}"]
        cells += [f"{np.mean(new) - np.mean(old):+.0f} {gain}"]
    cells += [f"{100 / len(shares):.0f}", f"{100 * max(shares.values()) / len(labels):.0f}"] if labels else ["", ""]
    return "| " + " | ".join([*cells, f"{after['training_s']:.0f}"]) + " |"


def matrix(result: dict[str, Any]) -> str:
    """The scores after each task of a sequence, and the metrics of forgetting, ROUGE-L and exact match."""
    tested = [*result["tasks"], *result["probes"]]
    lines = [f"\n{' -> '.join(result['tasks'])}; {result['settings'] or 'the defaults'}\n"]
    lines += ["| after | " + " | ".join(tested) + " | training (s) | answers (s) |", "|---" * (len(tested) + 3) + "|"]
    for stage in result["stages"]:
        cells = [" / ".join(f"{np.mean(stage['rows'][t][m]):.0f}" for m in METRICS) for t in tested]
        times = [f"{stage['training_s']:.0f}", f"{stage['answers_s']:.0f}"]
        lines.append("| " + " | ".join([stage["after"], *cells, *times]) + " |")
    lines.append("")
    for metric in METRICS:
        means = [[float(np.mean(s["rows"][t][metric])) for t in result["tasks"]] for s in result["stages"]]
        found = continual_metrics(means[0], means[1:])
        last = np.stack([result["stages"][-1]["rows"][t][metric] for t in result["tasks"]]).mean(0)
        told = ", ".join(f"{key} {value:.1f}" for key, value in found.items())
        lines.append(f"{metric}: {told}; AP {spread(list(last))}")
    return "\n".join(lines)


def show(results: Sequence[dict[str, Any]]) -> None:
    """Print both tables."""
    print("\n| task | rows | ROUGE-L: base | alone | gain | exact match: base | alone | gain | chance | majority | s |")
    print("|---" * 11 + "|")
    for result in results:
        if len(result["tasks"]) == 1:
            print(alone(result), *result["settings"])
    for result in results:
        if len(result["tasks"]) > 1:
            print(matrix(result))


def main() -> None:
    """Measure what is asked for and not there yet, and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=NAMES, help="trained alone (default: %(default)s)")
    parser.add_argument("--sequences", nargs="*", default=[], metavar="A,B,C", help="trained in this order")
    parser.add_argument("--probes", nargs="*", default=[], help="tested with the sequences, never trained")
    parser.add_argument("-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    parser.add_argument("--show", action="store_true", help="print the tables and measure nothing")
    parser.add_argument("--name", default="learnability", help="the result is results/NAME.json")
    arguments = parser.parse_args()
    path = HERE / "results" / f"{arguments.name}.json"
    results = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else []
    if not arguments.show:
        params = compose(arguments.overrides)
        folder = base_folder(params)
        tokenizer = load_tokenizer(folder)
        encoder = PromptEncoder(tokenizer, params.prompt.max_tokens, params.model.template_options)
        setup = Setup(params, folder, tokenizer, encoder)
        chains = [([name], []) for name in arguments.tasks] if not arguments.sequences else []
        chains += [(names.split(","), arguments.probes) for names in arguments.sequences]
        for names, probes in chains:
            what = {"tasks": names, "probes": probes, "settings": once(arguments.overrides)}
            same = [one for one in results if all(one[key] == value for key, value in what.items())]
            if same and not arguments.again:
                continue
            results = [one for one in results if one not in same]
            results.append(measure(setup, names, probes) | what)
            write_record(path, arguments, params, results)
            show(results[-1:])
    show(results)


if __name__ == "__main__":
    main()
