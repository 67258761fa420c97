"""The study's report in Markdown: what the findings say, and a table a finding."""

from collections.abc import Iterator, Sequence

from sapo.artifacts.study import OUTCOMES
from sapo.artifacts.study_summary import Number, PairFindings, StudySummary
from sapo.study.findings import DECIDES, SAPO
from sapo.study.words import MEASURES, TOGETHER, corrected, plain_words, span

TEXT = """\
# The study `{name}`: what the wording changes, and what predicts it

Model `{model}` ({dtype}), sequence `{sequence}`. Each pair is a task trained from the model that `{method}`
had made up to an earlier stage (seed {seed}): under {wordings} wordings of its instruction, with these
seeds of the new LoRA and the order of rows: {repeats}. The models that trainings start from were not
varied: what others would give is in no interval.

*In-task* is the task itself under the wording it was trained with, *retained* the earlier tasks under their
own prompts, *unseen* the tasks that have not been trained. Log-likelihood is that of the right answers, in
nats a token; score is exact match, for tasks with free answers ROUGE-L, in percent. Higher is better. In
brackets: 95 % intervals. [How to read this](../docs/study.md).

## In plain words

{words}

## Finding 1: how much the wording changes

Standard deviations. Over wordings: net of noise. Noise: what seeds and test rows leave in one wording's
mean. Another seed, test rows: what these change of one training's or wording's score. Between seeds:
Spearman's correlation of the wordings' scores with one seed and another.

{spreads}

The spread over wordings as a multiple of the in-task one. Above 1, the wording changes other tasks more
than the task itself.

{ratios}

## Finding 2: whether the effects go together

Spearman's correlations over wordings. p and, after the slash, Holm's for all pairs: of retained and unseen
alone. Those of single tasks are listed, not tested.

{together}

## Finding 3: whether the loss beforehand tells

Spearman's correlation of each wording's loss before the training with what it led to: below 0, a low loss
goes with a good outcome, as SAPO supposes. Holm's p is for all pairs and outcomes of a measure. Chosen: the
wording of lowest loss (0 is the original); its score minus the original's and minus the mean of all; the
share of other wordings below it; and how far it is below the best one, as observed, which noise makes
larger.

{forecasts}

## Rival predictors

Spearman's correlations with log-likelihoods: the mean over pairs, and the least and the most. A predictor
does better than the loss in a pair where its correlation with what is retained is the more negative one by
an interval that is corrected for the number of rivals. Cost: passes of a row for each wording, a backward
pass counted twice.

{rivals}

## How large a study is needed

How likely a study finds a predictor (p < 0.05) whose Spearman correlation with the true effects on what is
retained (log-likelihood) is rho: by simulation, with the spreads of {first}.

{chances}
"""


def report(summary: StudySummary) -> str:
    """The whole report."""
    tables = {
        "words": plain_words(summary),
        "spreads": _spreads(summary),
        "ratios": _ratios(summary),
        "together": _together(summary),
        "forecasts": _forecasts(summary),
        "rivals": _rivals(summary),
        "chances": _chances(summary),
    }
    known = summary.model_dump() | {"first": _name(summary.pairs[0])}
    known["repeats"] = ", ".join(map(str, summary.seeds))
    return TEXT.format(**(known | {name: "\n".join(lines) for name, lines in tables.items()}))


def _spreads(summary: StudySummary) -> Iterator[str]:
    columns = ["over wordings", "noise", "another seed", "test rows", "reliability", "between seeds"]
    yield from _head(["pair", "outcome", "measure", *columns])
    for measure, (title, unit, decimals) in MEASURES.items():
        for pair in summary.pairs:
            for outcome, of in pair.spread[measure].items():
                wide = [_shown(of.wording, decimals), f"{of.noise:.{decimals}f}"]
                wide += [_shown(one, decimals) for one in (of.seed, of.rows)]
                shares = [_shown(one, 2) for one in (of.reliability, of.between_seeds)]
                yield _row([_name(pair), _plain(outcome), f"{title} ({unit})", *wide, *shares])


def _ratios(summary: StudySummary) -> Iterator[str]:
    columns = [(measure, outcome) for measure in MEASURES for outcome in ("retained", "unseen")]
    yield from _head(["pair", *(f"{outcome}, {MEASURES[measure][0]}" for measure, outcome in columns)])
    for pair in summary.pairs:
        found = [pair.ratios[measure].get(outcome) for measure, outcome in columns]
        yield _row([_name(pair), *("-" if of is None else _ratio(of) for of in found)])


def _together(summary: StudySummary) -> Iterator[str]:
    yield from _head(
        ["pair", "of", *(part for title, *_ in MEASURES.values() for part in (title, "p / Holm's"))]
    )
    tested = {
        measure: [pair for pair in summary.pairs if TOGETHER in pair.together[measure]]
        for measure in MEASURES
    }
    holm = {
        (measure, pair.pair.name): p
        for measure, pairs in tested.items()
        for pair, p in zip(
            pairs, corrected([pair.together[measure][TOGETHER] for pair in pairs]), strict=True
        )
    }
    for pair in summary.pairs:
        for name in pair.together["log_likelihood"]:
            cells = []
            for measure in MEASURES:
                of = pair.together[measure][name]
                both = f"{_p(of.p)} / {_p(holm[measure, pair.pair.name])}" if name == TOGETHER else ""
                cells += [_shown(of, 2), both]
            yield _row([_name(pair), name, *cells])


def _forecasts(summary: StudySummary) -> Iterator[str]:
    columns = ["Spearman", "p", "Holm's p", "chosen", "over the original", "over the mean", "above", "regret"]
    yield from _head(["pair", "outcome", "measure", *columns])
    for measure, (title, unit, decimals) in MEASURES.items():
        for pair in summary.pairs:
            for outcome, by_predictor in pair.forecasts[measure].items():
                of = by_predictor[SAPO]
                told = [_shown(of.correlation, 2), _p(of.correlation.p), _p(of.corrected), str(of.chosen)]
                gains = [_shown(one, decimals, "+") for one in (of.over_original, of.over_mean)]
                places = [f"{of.percentile:.0f} %", f"{of.regret:.{decimals}f}"]
                yield _row([_name(pair), _plain(outcome), f"{title} ({unit})", *told, *gains, *places])


def _rivals(summary: StudySummary) -> Iterator[str]:
    yield from _head(["predictor", "keeps data", "cost", *map(_plain, OUTCOMES), "better than the loss"])
    measure, decides = DECIDES
    for name, predictor in summary.predictors.items():
        cells = []
        for outcome in OUTCOMES:
            tables = [pair.forecasts[measure].get(outcome, {}) for pair in summary.pairs]
            found = [table[name].correlation.value for table in tables if name in table]
            known = [value for value in found if value is not None]
            cells.append(f"{sum(known) / len(known):.2f} ({span(known, 2)})" if known else "-")
        beyond = [pair.forecasts[measure][decides][name].beyond_loss for pair in summary.pairs]
        above = sum(one is not None and one.low is not None and one.low > 0 for one in beyond)
        better = "" if name == SAPO else f"in {above} of {len(beyond)} pairs"
        keeps = "yes" if predictor.keeps_data else "no"
        yield _row([predictor.title, keeps, f"{predictor.passes:g}", *cells, better])


def _chances(summary: StudySummary) -> Iterator[str]:
    rhos = sorted({one.rho for one in summary.power})
    found = {(one.wordings, one.seeds, one.rho): one.power for one in summary.power}
    yield from _head(["wordings", "seeds", *(f"rho {rho:g}" for rho in rhos)])
    for wordings, seeds in sorted({key[:2] for key in found}):
        powers = [found[wordings, seeds, rho] for rho in rhos]
        cells = ["unknown" if one is None else f"{100 * one:.0f} %" for one in powers]
        yield _row([str(wordings), str(seeds), *cells])


def _name(pair: PairFindings) -> str:
    return f"{pair.pair.task} after {pair.pair.after}"


def _plain(name: str) -> str:
    return name.replace("_", "-")


def _shown(of: Number, decimals: int, sign: str = "") -> str:
    if of.value is None:
        return "-"
    if of.low is None or of.high is None:
        return f"{of.value:{sign}.{decimals}f}"
    return f"{of.value:{sign}.{decimals}f} [{of.low:{sign}.{decimals}f}, {of.high:{sign}.{decimals}f}]"


def _ratio(of: Number) -> str:
    """Without an upper end a ratio has no bound; without a value its denominator is 0."""
    value, low, high = (
        unknown if end is None else f"{end:.1f}"
        for end, unknown in ((of.value, "-"), (of.low, "-"), (of.high, "∞"))
    )
    return f"{value} [{low}, {high}]"


def _p(value: float | None) -> str:
    if value is None or value != value:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _head(columns: Sequence[str]) -> list[str]:
    return [_row(columns), _row(["---"] * len(columns))]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
