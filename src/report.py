"""report: the last stage's scores and lineage -> metrics/cl.json (AP, BWT, FWT ...), plots/*.csv and plots/*.png."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sapo import figures
from sapo.files import DataError, read_object, write_json
from sapo.metrics import METRICS, continual_metrics
from sapo.params import load_params
from sapo.stage import run

PLOTS = Path("plots")


def report() -> None:
    params = load_params()
    order, last = params.sequence.order, params.sequence.last
    rows = read_object(f"metrics/scores/{last}.json", rows=list)["rows"]
    if (stages := [row.get("stage") for row in rows if isinstance(row, dict)]) != ["base", *order]:
        raise DataError(f"metrics/scores/{last}.json holds the stages {stages}, expected base, {', '.join(order)}")
    lineage = read_lineage(f"models/{last}/lineage.json", order)

    about = {"method": params.method.name, "model": params.model.name, "sequence": params.sequence.name, "seed": params.seed}
    metrics = {metric: summary(rows, order, "scores", metric) for metric in METRICS}
    original = {metric: summary(rows, order, "scores_original_prompt", metric) for metric in METRICS}
    record = {"base_fingerprint": lineage["base"]["fingerprint"], "versions": lineage["versions"]}
    write_json("metrics/cl.json", about | metrics | {"original_prompt": original} | record)

    PLOTS.mkdir(exist_ok=True)
    scores = [
        {"stage": row["stage"], "task": task, **rounded({m: row["scores"][task][m] for m in METRICS})}
        for row in rows
        for task in order
    ]
    candidates = [
        {
            "task": entry["task"],
            "candidate": number,
            "loss": candidate["loss"],
            "rows": candidate["rows"],
            "chosen": number == entry["prompt"]["chosen"],
        }
        for entry in lineage["tasks"]
        for number, candidate in enumerate(entry["prompt"]["candidates"])
        if candidate["loss"] is not None
    ]
    training = [{"task": e["task"], "step": int(h["step"]), "loss": h["loss"]} for e in lineage["tasks"] for h in e["history"]]
    write_csv(PLOTS / "scores.csv", ["stage", "task", *METRICS], scores)
    write_csv(PLOTS / "candidates.csv", ["task", "candidate", "loss", "rows", "chosen"], candidates)
    write_csv(PLOTS / "training.csv", ["task", "step", "loss"], training)

    title = f"{params.method.name}, {params.model.name}, sequence {params.sequence.name}"
    figures.matrix(PLOTS / "matrix.png", rows, order, title)
    figures.stages(PLOTS / "scores.png", rows, order, title)
    figures.candidates(PLOTS / "candidates.png", candidates, order, title)
    figures.training(PLOTS / "training.png", training, order, title)
    for metric in METRICS:
        print(f"{metric}: " + ", ".join(f"{name} {value}" for name, value in metrics[metric].items()))


def read_lineage(path: str, order: list[str]) -> dict[str, Any]:
    """How the last model came to be. Raises DataError, before anything is written, where it lacks what the report shows."""
    lineage = read_object(path, base=dict, tasks=list, versions=dict)
    try:
        learned = [entry["task"] for entry in lineage["tasks"]]
        candidates = [(c["loss"], c["rows"]) for e in lineage["tasks"] for c in e["prompt"]["candidates"]]
        numbers = [loss for loss, _ in candidates if loss is not None]
        numbers += [h[key] for e in lineage["tasks"] for h in e["history"] for key in ("step", "loss")]
        numbers += [e["prompt"]["chosen"] for e in lineage["tasks"]]
        whole = bool(lineage["base"]["fingerprint"]) and all(isinstance(number, int | float) for number in numbers)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not what the train stage writes ({error!r}): run `dvc repro`") from error
    if learned != order or not whole:
        raise DataError(f"{path} is of another run or damaged: it has learned {learned}, expected {order}; run `dvc repro`")
    return lineage


def summary(rows: Sequence[dict[str, Any]], order: Sequence[str], kind: str, metric: str) -> dict[str, float]:
    """The continual-learning metrics of one answer metric, rounded to 1e-4. A missing score is an error that names it."""
    try:
        zero_shot, *matrix = [[row[kind][task][metric] for task in order] for row in rows]
    except (KeyError, TypeError) as error:
        raise DataError(f"the scores lack {error}: run `dvc repro` again") from error
    return rounded(continual_metrics(zero_shot, matrix))


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def write_csv(path: Path, columns: list[str], rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    run(report)
