"""How good an answer is. A metric is an entry of METRICS, at the end.

Scores, row scores, intervals, figures, tables and compare then know it.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from sapo.runtime.errors import DataError

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer


@dataclass(frozen=True)
class Answer:
    """What a metric may look at: what was answered to a row, and what is right, one or several texts.

    log_likelihood: mean log-probability, nats a token, of the first right answer and its end of turn under
    the row's prompt.
    """

    prediction: str
    references: Sequence[str]
    log_likelihood: float

    @cached_property
    def rouge(self) -> dict[str, float]:
        """The highest F1 over the references of each kind of ROUGE, in percent (rouge-score, words stemmed).

        Two empty texts: 100.0; an empty one and another: 0.0.
        """
        found = [_rouge(self.prediction, reference) for reference in self.references]
        return {kind: max(one[kind] for one in found) for kind in ROUGE}


@dataclass(frozen=True)
class Metric:
    """A score of a row, higher is better; the mean over rows is a task's.

    title, unit: for figures and tables. decimals: how many are shown. drawn: whether figures have a panel of
    it; tables always have it.
    """

    title: str
    unit: str
    score: Callable[[Answer], float]
    decimals: int = 1
    drawn: bool = True

    @property
    def label(self) -> str:
        return f"{self.title} ({self.unit})"

    @property
    def scale(self) -> tuple[float, float] | None:
        """The least and the highest score; None where there is no such bound on both sides."""
        return (0.0, 100.0) if self.unit == PERCENT else None

    def shown(self, value: float, sign: str = "") -> str:
        """The value as text; sign: `+` for one before a positive number too."""
        return f"{value:{sign}.{self.decimals}f}"

    def in_cell(self, value: float) -> str:
        """The value as text of a few characters."""
        return f"{value:.{self.decimals - 1}f}"

    def ends(self, interval: Sequence[float | None]) -> str:
        """Both ends of an interval as text; `-` where nothing can be said."""
        return f"[{', '.join('-' if end is None else self.shown(end) for end in interval)}]"


PERCENT = "%"
ROUGE = ("rouge1", "rougeL")


@cache
def _scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer  # takes half a second, and only answers need it

    return RougeScorer([*ROUGE], use_stemmer=True)


def _rouge(prediction: str, reference: str) -> dict[str, float]:
    if not prediction.strip() and not reference.strip():
        return dict.fromkeys(ROUGE, 100.0)
    return {kind: 100 * float(one.fmeasure) for kind, one in _scorer().score(reference, prediction).items()}


def rouge_l(answer: Answer) -> float:
    """ROUGE-L F1 in percent (Lin 2004). Only for Latin letters and digits, as ROUGE-1."""
    return answer.rouge["rougeL"]


def rouge_1(answer: Answer) -> float:
    """ROUGE-1 F1 in percent (Lin 2004): single words, in whatever order."""
    return answer.rouge["rouge1"]


# Full-width forms, minus signs, dashes and Arabic marks of numbers as ASCII writes them
_ASCII = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_ASCII |= str.maketrans("\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\u066a\u066b\u066c", "-------%.,")
_AROUND = " .,:;!?'\"`*()[]{}\u2026\u3002\u3001\u201c\u201d\u2018\u2019\u300c\u300d"
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_LETTER, _MARK = r"[^\W\d_]", r"(?:[^\w\s]|_)"
# An operand is a number or a single letter
_AFTER_ONE, _BEFORE_ONE = rf"(?:(?<=\d)|(?<=(?<!{_LETTER}){_LETTER}))", rf"(?=\d|{_LETTER}(?!{_LETTER}))"
_MARKS = re.compile(
    rf"""( [+<=>^|~%&\u2030]                               # wherever they are
         | (?<=\w)\#                                       # C#
         | (?<![\w)\]])-(?={_LETTER}(?!\w))               # -x
         | (?<![\w)\]])-(?=[\s$\u00a3\u20ac\u00a5\u221a(\[]*\.?\d)  # -5, - 5, -$5, -(3)
         | (?<![\w)\]])-(?=[\u221a(\[]+{_LETTER})         # -(x+1)
         | {_AFTER_ONE}-(?!\w)                             # A-
         | (?<!\.)\.(?=\d)                                # 1.5, .5
         | {_AFTER_ONE}\s*[-*/]\s*{_BEFORE_ONE}            # 5 - 3, x/y
         | (?<=\d){_MARK}+(?=\d)                          # 10:30, 1'5, 2)(3
         | {_AFTER_ONE}(?:(?![.'\u2019]){_MARK})+{_BEFORE_ONE}  # f(x), A:B; not U.S., I'm
         ) | {_MARK}""",
    re.VERBOSE,
)


def normal(text: str) -> str:
    """What exact match compares: the text as SQuAD's evaluation normalises it, but for marks with a meaning.

    Dropped: case, white space around and repeated, and punctuation (ASCII's and what Unicode calls so,
    full-width included; the backtick and $ too). A comma or semicolon is a space. So `Yes` is `yes.`, "yes",
    **yes** and yes\uff01, `don't` is `dont`, `a, b` is `a b`. A thousands comma is none: `1,000` is `1000`.

    What counts: + < = > ^ | ~ % & and symbols beyond ASCII, wherever they are; # after a letter (C#); a minus
    sign before a number, a single letter or a bracket (-5, - $5, -x, -(x+1)) and after one (A-); a point
    before a digit (1.5, .5); and what stands between two numbers or single letters (1/2, 10:30, 5 - 3, f(x)),
    except points and apostrophes between letters (U.S.).

    Of a text without any letter or digit only quotes, brackets, points and the like around it are dropped.
    Where nothing is left, the text itself counts, without outer white space: `?` is not `!`, and not empty.
    """
    text = text.translate(_ASCII).lower().strip()
    if not re.search(r"\w", text):
        return text.strip(_AROUND) or text
    plain = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    plain = re.sub(r"[,;\u3001]", " ", plain)
    return " ".join(_MARKS.sub(lambda found: found[1] or _symbol(found[0]), plain).split()) or text


def _symbol(mark: str) -> str:
    """The mark, or nothing for one of punctuation."""
    return "" if mark in "$`" or unicodedata.category(mark).startswith("P") else mark


def exact_match(answer: Answer) -> float:
    """100.0 if the answer and a reference are the same in their `normal` form, else 0.0."""
    return 100.0 * (normal(answer.prediction) in map(normal, answer.references))


def log_likelihood(answer: Answer) -> float:
    """Mean log-probability, nats a token, of the first reference; at most 0."""
    return answer.log_likelihood


# The first one is the headline
METRICS = {
    "rouge_l": Metric("ROUGE-L", PERCENT, rouge_l),
    "exact_match": Metric("exact match", PERCENT, exact_match),
    "rouge_1": Metric("ROUGE-1", PERCENT, rouge_1, drawn=False),  # of short answers it is ROUGE-L
    "log_likelihood": Metric("log-likelihood", "nats a token", log_likelihood, decimals=3),
}


def row_scores(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    log_likelihoods: Sequence[float],
    task: str,
) -> dict[str, list[float]]:
    """Each metric of every row of a task, of which one or several answers are right.

    Raises DataError for no rows, unequal counts, and a score that is not finite, which it names by its row.
    """
    counts = len(predictions), len(references), len(log_likelihoods)
    if not references or len(set(counts)) > 1:
        raise DataError(
            f"{task}: {counts[0]} predictions and {counts[2]} log-likelihoods for {counts[1]} references: "
            "nothing to score"
        )
    right = [[found] if isinstance(found, str) else found for found in references]
    answers = [Answer(*of) for of in zip(predictions, right, log_likelihoods, strict=True)]
    scores = {name: [metric.score(answer) for answer in answers] for name, metric in METRICS.items()}
    for name, values in scores.items():
        for row, value in enumerate(values):
            if not math.isfinite(value):
                raise DataError(
                    f"{task}: {name} of test row {row} is {value}: "
                    "the model's weights or model.dtype cannot be used"
                )
    return scores
