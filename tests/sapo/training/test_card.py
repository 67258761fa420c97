"""A model card shows whatever names and instructions hold as text."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from canaries import MARKUP
from sapo.artifacts.lineage import BaseOfAdapter
from sapo.config import Lora
from sapo.training.card import model_card
from tiny import lineage_of


def test_a_model_card_shows_any_text_as_text(tiny_base: Path, lora: Lora) -> None:
    lineage = lineage_of(tiny_base, lora, [f"{MARKUP}\n---\n# {number}\n```\n<b>" for number in range(11)])
    base = BaseOfAdapter(
        id=f"a: [b]\nlicense: x\n---\n{MARKUP}", name=MARKUP, revision=MARKUP, fingerprint="f", adapter=None
    )
    method = lineage.method.model_copy(update={"name": MARKUP})
    card = model_card(lineage.model_copy(update={"base": base, "sequence": MARKUP, "method": method}))
    read = ModelCard(card)  # as the hub reads it
    tags = ["lora", "continual-learning"]
    assert read.data.to_dict() == {"base_model": base.id, "library_name": "peft", "tags": tags}
    page = MarkdownIt("commonmark").render(read.text)
    for tag in ("<script", "<b>", "<img", "<a ", "<hr"):
        assert tag not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt; [x](javascript:alert(1))") == 11 + 5
    assert page.count("<h1>") == 1


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ({}, "It holds one block of rank 3 a task, in the order below,"),
        ({"adapter": "joint"}, "It holds one LoRA of rank 3, trained from the base model"),
        ({"adapter": "single"}, "It holds one LoRA of rank 3, trained on from task to task"),
        ({"replay": 0.07}, "Each task was trained together with 7 % of every earlier task's rows."),
    ],
)
def test_a_model_card_says_what_the_adapter_holds(
    tiny_base: Path, lora: Lora, method: dict[str, Any], told: str
) -> None:
    lineage = lineage_of(tiny_base, lora, ["a", "b"])
    used = lineage.method.model_copy(update=method)
    card = model_card(lineage.model_copy(update={"method": used}))
    assert told in card
    assert card.count("It holds") == 1
    assert ("trained together with" in card) == ("replay" in method)
