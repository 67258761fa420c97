"""Texts of data, models and APIs on a page: what cannot be seen is shown, and nothing is markup."""

import json
import re
from typing import Any

LONGEST = 2000  # characters of a text that a page shows

# C0 and C1 controls but tab and newline, lone surrogates, and what turns the direction of the text around it
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)


def visible(text: str) -> str:
    """The text with what is hidden spelled out, as <U+202E>, and cut after LONGEST characters."""
    cut = f" \u2026 [{len(text) - LONGEST:,} more characters]" if len(text) > LONGEST else ""
    return _HIDDEN.sub(lambda found: _spelled(ord(found[0])), text[:LONGEST].replace("\r\n", "\n")) + cut


def _spelled(code: int) -> str:
    picture = code + 0x2400 if code < 0x20 else 0x2421 if code == 0x7F else None
    return chr(picture) if picture else f"\u27e8U+{code:04X}\u27e9"


def in_script(content: Any) -> str:
    """JSON that can stand in a <script>: no character of it opens or closes markup."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
