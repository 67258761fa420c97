"""metrics/study.json: the findings of the study as numbers with intervals."""

from pathlib import Path

from sapo.artifacts.schema import Artifact, Part
from sapo.artifacts.study import AboutPredictor
from sapo.runtime.outputs import write_json
from sapo.settings.study import Pair

STUDY = Path("metrics/study.json")


class Number(Part):
    """An estimate, both ends of its 95 % interval, and p of the hypothesis that it is 0.

    null where nothing can be said; of a ratio also for what has no upper bound.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None


class Spread(Part):
    """How an outcome differs between wordings: standard deviations, in the measure's unit.

    wording: net of noise. seed: what another seed changes of one training. rows: what the choice of test rows
    changes of one wording's score. noise: of one wording's mean, with which `wording` compares. reliability:
    the share of the variance of the means that is no noise. between_seeds: Spearman's correlation of the
    wordings' scores with two seeds (of several: the mean over pairs of seeds, without an interval).
    """

    wording: Number
    seed: Number
    rows: Number
    noise: float
    reliability: Number
    between_seeds: Number


class Forecast(Part):
    """What a predictor tells of an outcome, and what choosing its lowest wording leads to.

    correlation: Spearman's; below 0 a low value goes with a good outcome. corrected: Holm's p over all
    correlations of its table. beyond_loss: how much more negative the correlation is than the loss's, with
    an interval corrected for the number of rivals. over_original, over_mean: the chosen wording's score minus
    the original's, or the mean of all. percentile: of the other wordings below it. regret: below the best
    one, as observed.
    """

    correlation: Number
    corrected: float | None
    beyond_loss: Number | None
    chosen: int
    over_original: Number
    over_mean: Number
    percentile: float
    regret: float


class PairFindings(Part):
    """spread: measure -> outcome -> its spread. ratios: measure -> outcome -> its wording SD over in-task's.

    together: measure -> `A ~ B` -> the correlation of two outcomes, or of two other tasks, over wordings;
    of retained and unseen with p. forecasts: measure -> outcome -> predictor.
    """

    pair: Pair
    tasks: dict[str, int]  # test rows of each
    before: dict[str, dict[str, float | None]]  # measure -> outcome -> the score before the training
    spread: dict[str, dict[str, Spread]]
    ratios: dict[str, dict[str, Number]]
    together: dict[str, dict[str, Number]]
    forecasts: dict[str, dict[str, dict[str, Forecast]]]


class Chance(Part):
    """The probability to find a predictor of correlation rho with the true effects at 5 %."""

    rho: float
    wordings: int
    seeds: int
    power: float | None


class StudySummary(Artifact):
    """better: the predictors that do better than the loss, see sapo.study.findings."""

    name: str
    method: str
    model: str
    sequence: str
    seed: int  # of the run whose models the trainings start from
    wordings: int
    seeds: list[int]
    pairs: list[PairFindings]
    predictors: dict[str, AboutPredictor]
    better: list[str]
    power: list[Chance]
    base_fingerprint: str
    dtype: str
    device: str
    versions: dict[str, str]

    def write(self) -> None:
        write_json(STUDY, self.content())
