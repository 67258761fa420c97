"""What a paraphrase must be to compete: a different text that asks the same and keeps every label."""

import re
import unicodedata
from collections.abc import Sequence

MIN_RATIO, MAX_RATIO = 0.3, 3.0  # a candidate's length, in characters, relative to the original's
DUPLICATE = "it is a duplicate"
SPECIAL = re.compile(r"<\|[^|<>]{1,40}\|>|</?(?:s|think)>|\[/?INST\]|<</?SYS>>")
# What makes a label part of a longer word; Chinese puts no space around one
JOINED = r"[^\W\u3400-\u9fff\uf900-\ufaff]|-"


def normalised(text: str) -> str:
    """The text without case, punctuation and white space, for telling duplicates."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def keeps_label(text: str, label: str) -> bool:
    """Whether the label stands in the text verbatim and as a whole word."""
    return re.search(rf"(?<!{JOINED}){re.escape(label)}(?!{JOINED})", text) is not None


def faults(
    candidate: object, original: str, labels: Sequence[str], accepted: Sequence[str] = ()
) -> list[str]:
    """Why a candidate cannot be used beside the original and the ones already accepted; empty when it can."""
    if not isinstance(candidate, str):
        return ["it is not a text"]
    if not normalised(candidate):
        return ["it is empty"]
    found = []
    if normalised(candidate) == normalised(original):
        found.append("it is the original")
    if normalised(candidate) in map(normalised, accepted):
        found.append(DUPLICATE)
    missing = [
        label for label in labels if keeps_label(original, label) and not keeps_label(candidate, label)
    ]
    if missing:
        found.append(f"it lacks the labels {', '.join(missing)}")
    if not MIN_RATIO * len(original) <= len(candidate) <= MAX_RATIO * len(original):
        found.append(
            f"its length of {len(candidate)} characters is too far from the original's {len(original)}"
        )
    if SPECIAL.search(candidate):
        found.append("it holds a control token of a chat template")
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in candidate):
        found.append("it holds a control character")
    return found
