"""The table behind the study's figures: what each wording's trainings led to."""

from collections.abc import Iterator, Sequence

from sapo.analysis.tables import Line
from sapo.artifacts.study import OUTCOMES
from sapo.study.findings import means
from sapo.study.results import MEASURES, PairResults


def effects(results: Sequence[PairResults]) -> tuple[list[str], list[Line]]:
    """Columns, and a line a pair, wording and seed; wording 0 is the original. Predictors know of no seed."""
    after = [f"{outcome}_{measure}" for outcome in OUTCOMES for measure in MEASURES]
    columns = ["task", "after", "wording", "seed", *results[0].predictors.predictors, *after]
    return columns, [line for one in results for line in _of_pair(one)]


def _of_pair(results: PairResults) -> Iterator[Line]:
    scores = {
        f"{outcome}_{measure}": means(found)
        for outcome in OUTCOMES
        for measure in MEASURES
        if (found := results.tables(outcome, measure))
    }
    for wording in range(results.wordings):
        known = {name: of.values[wording] for name, of in results.predictors.predictors.items()}
        for index, training in enumerate(results.trainings):
            after = {name: round(float(of[wording, index]), 6) for name, of in scores.items()}
            yield results.pair.model_dump() | {"wording": wording, "seed": training.seed} | known | after
