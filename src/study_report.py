"""study_report: all results of the study -> metrics/study.json, plots/study/ and study/report.md."""

from pathlib import Path

from sapo.artifacts.study_summary import STUDY
from sapo.config import load_params
from sapo.runtime.command import run
from sapo.runtime.imports import quick_imports
from sapo.runtime.outputs import write_text

PLOTS, REPORT = Path("plots/study"), Path("study/report.md")


def study_report() -> None:
    """Bring the study's results together: the three findings with intervals, tables and figures."""
    with quick_imports():
        from sapo.analysis.tables import write_csv
        from sapo.study import figures
        from sapo.study.findings import summarise
        from sapo.study.report import report
        from sapo.study.results import read_results
        from sapo.study.tables import effects
        from sapo.study.words import plain_words

    params = load_params()
    results = read_results(params)
    summary = summarise(params, results)
    summary.write()
    write_text(REPORT, report(summary))
    write_csv(PLOTS / "effects.csv", *effects(results))
    title = f"study {summary.name}: {summary.model}, sequence {summary.sequence}"
    figures.predicted(PLOTS / "log_likelihood.png", summary, results, "log_likelihood", title)
    figures.predicted(PLOTS / "score.png", summary, results, "score", title)
    figures.spreads(PLOTS / "spreads.png", summary, title)
    figures.predictors(PLOTS / "predictors.png", summary, title)
    print("\n".join([*plain_words(summary), "", f"the whole report: {REPORT}; the numbers: {STUDY}"]))


if __name__ == "__main__":
    run(study_report)
