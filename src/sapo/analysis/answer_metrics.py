"""How good an answer is. A metric is a function here, registered once.

Files, intervals, figures and compare then know it.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from sapo.runtime.errors import DataError

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer


@dataclass(frozen=True)
class Metric:
    """label: for figures, with the unit. score: of (prediction, reference), in percent; higher is better."""

    label: str
    score: Callable[[str, str], float]


@cache
def _scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer  # takes half a second, and only answers need it

    return RougeScorer(["rougeL"], use_stemmer=True)


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L F1 in percent (Lin 2004) of rouge-score, words stemmed. Only for Latin letters and digits.

    Two empty texts: 100.0; an empty one and another: 0.0.
    """
    if not prediction.strip() and not reference.strip():
        return 100.0
    return 100 * float(_scorer().score(reference, prediction)["rougeL"].fmeasure)


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


def exact_match(prediction: str, reference: str) -> float:
    """100.0 if both are the same in their `normal` form, else 0.0."""
    return 100.0 * (normal(prediction) == normal(reference))


METRICS = {
    "rouge_l": Metric("ROUGE-L (%)", rouge_l),
    "exact_match": Metric("exact match (%)", exact_match),
}


def row_scores(
    predictions: Sequence[str], references: Sequence[str | Sequence[str]]
) -> dict[str, list[float]]:
    """Each metric of every row, in percent: the highest over the row's references, of one or several.

    Raises DataError for no rows or unequal counts.
    """
    if not references or len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions for {len(references)} references: nothing to score")
    right = [[found] if isinstance(found, str) else found for found in references]
    pairs = list(zip(predictions, right, strict=True))
    return {
        name: [max(metric.score(prediction, one) for one in answers) for prediction, answers in pairs]
        for name, metric in METRICS.items()
    }
