"""report: all scores and the last lineage -> metrics/cl.json (AP, BWT, FWT ...), metrics/provenance.json, plots/."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sapo import figures
from sapo.files import DataError, read_jsonl, read_object, sha256_file, write_json, write_text
from sapo.metrics import METRICS, continual_metrics
from sapo.params import Params, load_params
from sapo.provenance import gather
from sapo.records import WEIGHTS, check_one_run, data_fingerprint, read_lineage
from sapo.stage import run
from sapo.statistics import check_means, ends, row_intervals, row_tables

PLOTS = Path("plots")


def report() -> None:
    params = load_params()
    order, last = params.sequence.order, params.sequence.last
    scores_file, rows_file = f"metrics/scores/{last}.json", f"metrics/rows/{last}.jsonl"
    rows = read_object(scores_file, rows=list)["rows"]
    if (stages := [row.get("stage") for row in rows if isinstance(row, dict)]) != ["base", *order]:
        raise DataError(f"{scores_file} holds the stages {stages}, expected base, {', '.join(order)}")
    lineage = read_lineage(f"models/{last}/lineage.json", order)
    check_one_run(rows, lineage, sha256_file(f"models/{last}/{WEIGHTS}"), scores_file)
    about = what_ran(params, lineage)

    tables = row_tables(read_jsonl(rows_file), ["base", *order], order, rows_file)
    metrics, cells = summary(rows, order, "scores", tables["chosen"], rows_file)
    original, _ = summary(rows, order, "scores_original_prompt", tables["original"], rows_file)
    record = rows[0]["run"]
    tested = {
        "test_rows": {task: of["rows"] for task, of in record["tasks"].items()},
        "test_fingerprint": data_fingerprint(record),
    }
    made = {"base_fingerprint": record["base"], "dtype": record["settings"]["dtype"]}
    made |= {"device": record["device"], "versions": record["versions"]}
    provenance = gather("metrics/provenance", order)  # before anything is written: it may lack a file
    write_json("metrics/cl.json", about | metrics | {"original_prompt": original} | tested | made)
    write_json("metrics/provenance.json", about | provenance)

    scores = [
        {"stage": row["stage"], "task": task}
        | rounded({metric: row["scores"][task][metric] for metric in METRICS})
        | bounds_of(cells[i, j])
        for i, row in enumerate(rows)
        for j, task in enumerate(order)
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
    write_csv(PLOTS / "scores.csv", ["stage", "task", *METRICS, *bounds_of(cells[0, 0])], scores)
    write_csv(PLOTS / "candidates.csv", ["task", "candidate", "loss", "rows", "chosen"], candidates)
    write_csv(PLOTS / "training.csv", ["task", "step", "loss"], training)

    title = f"{params.method.name}, {params.model.name}, sequence {params.sequence.name}"
    figures.matrix(PLOTS / "matrix.png", rows, order, f"{title}\n{figures.caption(metrics, ('AP', 'BWT', 'FWT'))}")
    figures.stages(PLOTS / "scores.png", rows, order, cells, title)
    figures.candidates(PLOTS / "candidates.png", candidates, order, title)
    figures.training(PLOTS / "training.png", training, order, title)
    print(figures.caption(metrics, tuple(metrics["rouge_l"])))


def what_ran(params: Params, lineage: Mapping[str, Any]) -> dict[str, Any]:
    """Method, model, sequence and seed. Raises DataError where params.yaml names others than the lineage."""
    about = {"method": params.method.name, "model": params.model.name, "seed": params.seed}
    trained = {"method": lineage["method"]["name"], "model": lineage["base"]["name"], "seed": lineage["seed"]}
    for field, value in about.items():
        if trained[field] != value:
            raise DataError(
                f"params.yaml has {field} {value}, but the models were trained with {trained[field]}: run `dvc repro`"
            )
    return about | {"sequence": params.sequence.name}


def summary(
    rows: Sequence[dict[str, Any]], order: Sequence[str], kind: str, table: dict[str, np.ndarray], where: str
) -> tuple[dict[str, dict[str, Any]], np.ndarray]:
    """METRIC and METRIC_interval: continual-learning metrics, to 1e-4. And each score's interval: (stages, tasks, metrics, 2).

    A missing score is an error that names it.
    """
    try:
        matrices = {metric: [[row[kind][task][metric] for task in order] for row in rows] for metric in METRICS}
    except (KeyError, TypeError) as error:
        raise DataError(f"the scores lack {error}: run `dvc repro` again") from error
    values = {metric: rounded(continual_metrics(zero, matrix)) for metric, (zero, *matrix) in matrices.items()}
    check_means(table, rows, kind, where)
    cells, intervals = row_intervals(table)
    return values | {f"{metric}_interval": of for metric, of in intervals.items()}, cells


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def bounds_of(cell: np.ndarray) -> dict[str, float | None]:
    """The interval of one score, (metrics, 2), as columns; empty where there is none."""
    columns = [f"{metric}_{end}" for metric in METRICS for end in ("low", "high")]
    return dict(zip(columns, ends(cell.ravel()), strict=True))


def write_csv(path: Path, columns: list[str], rows: Sequence[dict[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


if __name__ == "__main__":
    run(report)
