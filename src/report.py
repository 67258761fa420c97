"""report: all scores and answers, the last lineage and the chosen prompts -> metrics/ and plots/.

metrics/cl.json holds AP, BWT, FWT and the others that DVC lists, details.json all metrics, provenance.json
when and where each stage ran. plots/report.html shows everything on one page.
"""

from pathlib import Path

from sapo.analysis.continual import NAMES, OF_PROBES
from sapo.analysis.one_run import check_one_run, check_params
from sapo.artifacts.chosen_prompt import read_selections
from sapo.artifacts.lineage import model_folder, read_lineage, weights_path
from sapo.artifacts.provenance import gather
from sapo.artifacts.run_record import RunName
from sapo.artifacts.scores import read_rows, read_scores, rows_path, scores_path
from sapo.artifacts.summary import Summary
from sapo.config import load_params
from sapo.runtime.command import run
from sapo.runtime.files import sha256_file
from sapo.runtime.imports import quick_imports

PLOTS = Path("plots")


def report() -> None:
    """Bring all stages' results together: metrics with intervals, tables, figures, page."""
    with quick_imports():
        from sapo.analysis import figures, tables
        from sapo.analysis.intervals import row_tables
        from sapo.analysis.summarise import summarise
        from sapo.page.answers import read_answers
        from sapo.page.run import write_page

    params = load_params()
    sequence, last = params.sequence, params.sequence.last
    stages = read_scores(last, sequence.stages)
    lineage = read_lineage(model_folder(last), sequence.order)
    prompts = read_selections({entry.task: entry.selection for entry in lineage.tasks})
    check_one_run(stages, lineage, prompts, sha256_file(weights_path(last)), str(scores_path(last)))
    check_params(params, lineage)

    where, evaluated = str(rows_path(last)), sequence.evaluated
    rows = row_tables(read_rows(last), sequence.stages, evaluated, where)
    metrics, cells = summarise(stages, evaluated, "chosen", rows["chosen"], where)
    original, _ = summarise(stages, evaluated, "original", rows["original"], where)
    answers = read_answers(stages, evaluated, lineage.asked(), rows["chosen"])
    name = RunName(
        method=params.method.name, model=params.model.name, seed=params.seed, sequence=sequence.name
    )
    provenance = gather(sequence.order, name)  # before anything is written: it may lack a file
    summary = Summary.of(name, metrics, original, stages[0].run)
    summary.write()
    provenance.write()

    scores = tables.scores_table(stages, evaluated, cells)
    candidates, training = tables.candidates_table(prompts), tables.training_table(lineage)
    tables.write_csv(PLOTS / "scores.csv", tables.SCORES, scores)
    tables.write_csv(PLOTS / "candidates.csv", tables.CANDIDATES, candidates)
    tables.write_csv(PLOTS / "training.csv", tables.TRAINING, training)

    title = f"{params.method.name}, {params.model.name}, sequence {sequence.name}"
    headline = figures.caption(summary, ("AP", "BWT", "FWT"), figures.DRAWN)
    figures.matrix(PLOTS / "matrix.png", stages, evaluated, f"{title}\n{headline}")
    figures.scores(PLOTS / "scores.png", stages, evaluated, cells, title)
    figures.candidates(PLOTS / "candidates.png", candidates, sequence.order, title)
    figures.training(PLOTS / "training.png", training, sequence.order, title)
    lines = {"scores": scores, "candidates": candidates, "training": training}
    page = PLOTS / "report.html"
    write_page(page, summary, stages, prompts, lineage, answers, lines)
    print(figures.caption(summary, [*NAMES, *(OF_PROBES if sequence.probes else ())]))
    print(f"all of it, with every answer, on one page: {page}")


if __name__ == "__main__":
    run(report)
