"""report: the last stage's scores and lineage -> metrics/cl.json (AP, BWT, FWT ...), plots/*.csv and plots/*.png."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sapo import figures
from sapo.files import DataError, read_json, write_json, write_text
from sapo.metrics import METRICS, continual_metrics
from sapo.params import load_params
from sapo.stage import run

PLOTS = Path("plots")


def report() -> None:
    params = load_params()
    order, last = params.sequence.order, params.sequence.last
    rows = read_json(f"metrics/scores/{last}.json")["rows"]
    if [row["stage"] for row in rows] != ["base", *order]:
        raise DataError(
            f"metrics/scores/{last}.json holds the stages {[row['stage'] for row in rows]}, expected base, {', '.join(order)}"
        )
    lineage = read_json(f"models/{last}/lineage.json")

    about = {"method": params.method.name, "model": params.model.name, "sequence": params.sequence.name, "seed": params.seed}
    metrics = {metric: summary(rows, order, "scores", metric) for metric in METRICS}
    original = {metric: summary(rows, order, "scores_original_prompt", metric) for metric in METRICS}
    record = {"base_fingerprint": lineage["base"]["fingerprint"], "versions": lineage["versions"]}
    write_json("metrics/cl.json", about | metrics | {"original_prompt": original} | record)

    scores = [{"stage": row["stage"], "task": task, **rounded(row["scores"][task])} for row in rows for task in order]
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


def summary(rows: Sequence[dict[str, Any]], order: Sequence[str], kind: str, metric: str) -> dict[str, float]:
    """The continual-learning metrics of one answer metric, rounded to 1e-4. A missing score is an error that names it."""
    try:
        zero_shot, *matrix = [[row[kind][task][metric] for task in order] for row in rows]
    except KeyError as error:
        raise DataError(f"the scores lack {error}: run `dvc repro` again") from error
    return rounded(continual_metrics(zero_shot, matrix))


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def write_csv(path: Path, columns: list[str], rows: Sequence[dict[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


if __name__ == "__main__":
    run(report)
