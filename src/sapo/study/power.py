"""How likely a study of so many wordings and seeds finds a predictor of given strength."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sapo.study.components import Components
from sapo.study.correlation import PERMUTATIONS, permutations

DRAWS = 2000
ALPHA = 0.05


@dataclass(frozen=True)
class Power:
    """rho: Spearman's correlation of the predictor with the true effects; power: 0 to 1, NaN if unknown."""

    rho: float
    wordings: int
    seeds: int
    power: float


def power(rho: float, wordings: int, seeds: int, found: Components, draws: int = DRAWS) -> float:
    """The probability that the predictor's correlation with the measured effects is significant at 5 %.

    rho: Spearman's correlation of the predictor with the true effects of all possible wordings.
    found: the components of a study with two seeds or more; as many test rows as it had are assumed. True
    effects and noise are taken as normal. NaN for a study with one seed, which does not tell what seeds add.
    The test is that of `correlation.spearman`; `draws` is the number of studies simulated.
    """
    if math.isnan(found.repeat):
        return math.nan
    random = np.random.default_rng(0)
    effect, mixed, noise = random.standard_normal((3, draws, wordings))
    r = 2 * math.sin(math.pi * rho / 6)  # Pearson's correlation of normal values with this Spearman one
    predictor = r * effect + math.sqrt(1 - r**2) * mixed
    measured = found.wording.value * effect + noise * math.sqrt(found.rows.value**2 + found.repeat**2 / seeds)
    observed = (_ranks(predictor) * _ranks(measured)).sum(-1)
    null = np.sort(np.abs(_ranks(permutations(wordings)) @ _ranks(np.arange(wordings))))
    critical = null[-math.floor(ALPHA * (1 + PERMUTATIONS))]  # p <= 5 % above it
    return float(np.mean(np.abs(observed) > critical + 1e-9))


def power_table(
    found: Components,
    wordings: Sequence[int] = (11, 21, 41),
    seeds: Sequence[int] = (1, 2, 3, 5),
    rhos: Sequence[float] = (0.3, 0.5, 0.7),
) -> list[Power]:
    """The power for every combination, the last one (rho) changing fastest."""
    return [
        Power(rho, count, repeats, power(rho, count, repeats, found))
        for count in wordings
        for repeats in seeds
        for rho in rhos
    ]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of the last axis, with mean 0 and length 1; without ties."""
    ranks = values.argsort(-1).argsort(-1) - (values.shape[-1] - 1) / 2
    return np.asarray(ranks / np.linalg.norm(ranks, axis=-1, keepdims=True))
