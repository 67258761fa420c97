"""Any text is shown as text, and what is hidden in it is seen."""

import json

from hypothesis import given
from hypothesis import strategies as st

from canaries import MARKUP
from sapo.page.texts import LONGEST, in_script, visible


def test_hidden_characters_are_spelled_out_and_others_stay() -> None:
    assert visible("a\x00b\x1b[31m\x7f\x9b") == "a␀b␛[31m␡⟨U+009B⟩"
    assert visible("\u202egnirts\u2066") == "⟨U+202E⟩gnirts⟨U+2066⟩"
    assert visible("half \ud83d") == "half ⟨U+D83D⟩"
    for text in ("two\nlines\tand a tab", "שלום עולם", "مرحبا", "文本", "e\u0301", "👩\u200d🚀"):
        assert visible(text) == text
    assert visible("x" * LONGEST) == "x" * LONGEST
    assert visible("x" * (LONGEST + 1234)) == "x" * LONGEST + " … [1,234 more characters]"


@given(st.text())
def test_a_script_s_json_has_no_markup_and_says_the_same(text: str) -> None:
    written = in_script({"text": visible(text) + MARKUP + "</script><!--\u2028"})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written)["text"] == visible(text) + MARKUP + "</script><!--\u2028"
    written.encode("utf-8")
