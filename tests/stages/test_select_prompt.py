"""select where nothing needs measuring: there is no model in these folders, and none is missed."""

from pathlib import Path

import pytest
import yaml

from by_hand import settings, write_tasks
from sapo.artifacts.candidates import Candidates
from sapo.artifacts.chosen_prompt import Candidate, ChosenPrompt, prompt_path
from sapo.artifacts.provenance import FOLDER, StageProvenance
from sapo.runtime.errors import ArtifactError
from select_prompt import select

TEXTS = ["Say two.", "Better two.", "Worse two."]


def selected(selector: str, texts: list[str]) -> ChosenPrompt:
    """What select writes for the second of two tasks, with this selector and these candidates."""
    content = settings(["one", "two"]).model_dump(mode="json")
    content["method"] |= {"selector": selector, "paraphrases": selector != "original"}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    write_tasks(["one", "two"])
    Candidates(task="two", source="bank", candidates=texts, api=None).write()
    select("two")
    return ChosenPrompt.read(prompt_path("two"))


@pytest.mark.parametrize(
    ("selector", "texts"),
    [("original", TEXTS), ("original", TEXTS[:1]), ("sapo", TEXTS[:1]), ("random", TEXTS[:1])],
)
def test_without_a_choice_to_make_the_original_is_kept_and_no_loss_or_place_is_claimed(
    selector: str, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prompt = selected(selector, texts)
    assert (prompt.chosen, prompt.instruction, prompt.selector) == (0, "Say two.", selector)
    assert prompt.candidates == [
        Candidate(instruction=text, original=text == "Say two.", loss=None, rows=0, place=None)
        for text in texts
    ]
    assert prompt.run is None
    assert (prompt.task, prompt.after) == ("two", "one")
    kept = StageProvenance.read(FOLDER / "select-two.json")
    assert kept.samples == {"candidates": len(texts), "row_evaluations": 0}


def test_with_a_choice_to_make_the_model_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ArtifactError, match=r"models/one/lineage\.json is missing|models/base/base\.json is missing"
    ):
        selected("sapo", TEXTS)
