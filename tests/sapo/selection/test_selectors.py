"""Which candidate is chosen from the losses and what the search has found."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import select_prompt
from laboratory import REPOSITORY
from sapo.artifacts.candidates import Candidates
from sapo.artifacts.chosen_prompt import ChosenPrompt, prompt_path
from sapo.artifacts.task import Example, Task, save_task
from sapo.config import Method
from sapo.runtime.errors import DataError
from sapo.selection.search import search
from sapo.selection.selectors import FIXED, ORIGINAL, SELECTORS, fixed_candidate

untimed = settings(deadline=None)  # how long a test takes depends on the machine
# few values, so that ties are common
losses_lists = st.lists(st.floats(0, 20) | st.sampled_from([1.0, 2.0]), min_size=1, max_size=21)


def choose(selector: str, losses: list[float], seed: int) -> int:
    """As the select stage does it: the search over one row, then the selector."""
    best, _ = search("exhaustive", [lambda rows, loss=loss: [loss] for loss in losses], 1, 0.95)
    return SELECTORS[selector].choose(losses, best, f"{seed} task")


@untimed
@given(losses=losses_lists, seed=st.integers(0))
def test_sapo_takes_a_lowest_loss_and_the_original_on_a_tie(losses: list[float], seed: int) -> None:
    chosen = choose("sapo", losses, seed)
    assert losses[chosen] == min(losses)
    assert (chosen == 0) == (losses[0] == min(losses))


@untimed
@given(losses=losses_lists, seed=st.integers(0))
def test_highest_loss_takes_a_highest_loss_and_the_original_on_a_tie(losses: list[float], seed: int) -> None:
    chosen = choose("highest_loss", losses, seed)
    assert losses[chosen] == max(losses)
    assert (chosen == 0) == (losses[0] == max(losses))


@untimed
@given(losses=losses_lists, seed=st.integers(0))
def test_random_is_decided_by_the_seed_and_not_by_the_losses(losses: list[float], seed: int) -> None:
    chosen = choose("random", losses, seed)
    assert chosen in range(len(losses))
    assert chosen == choose("random", losses, seed) == choose("random", losses[::-1], seed)


def test_random_reaches_every_candidate_over_the_seeds() -> None:
    assert {choose("random", [1.0] * 5, seed) for seed in range(200)} == set(range(5))


@untimed
@given(losses=losses_lists, best=st.integers(0, 20), seed=st.integers(0))
@pytest.mark.parametrize("name", SELECTORS)
def test_a_selector_that_needs_no_losses_does_not_depend_on_them(
    name: str, losses: list[float], best: int, seed: int
) -> None:
    """A search may drop candidates then, whose losses are of few rows."""
    selector = SELECTORS[name]
    if not selector.every_loss:
        best %= len(losses)
        assert (
            selector.choose(losses, best, str(seed)) == selector.choose(losses[::-1], best, str(seed)) == best
        )


@pytest.mark.parametrize("name", [ORIGINAL, FIXED, *SELECTORS])
def test_a_method_may_name_every_selector_and_no_other(name: str) -> None:
    about = yaml.safe_load((REPOSITORY / "conf/method/fixed.yaml").read_text())
    about |= {"paraphrases": name != ORIGINAL, "candidate": 0 if name == FIXED else None}
    assert Method.model_validate(about | {"selector": name}).selector == name
    with pytest.raises(ValueError, match="'lowest' is none of"):
        Method.model_validate(about | {"selector": "lowest"})


def test_the_original_selector_takes_the_original_and_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no model in this folder that could be asked."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["method"] |= {"selector": ORIGINAL, "paraphrases": False}
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    name, row = next(iter(params["sequence"]["tasks"])), [Example("text", "yes")]
    save_task(Path("data/tasks") / name, Task(name, "Judge it.", "?", [], "en", None, {}, row, row))
    Candidates(task=name, source="none", candidates=["Judge it.", "Weigh it."], api=None).write()
    select_prompt.select(name)
    chosen = ChosenPrompt.read(prompt_path(name))
    assert (chosen.chosen, chosen.instruction, chosen.run) == (0, "Judge it.", None)
    assert [(one.loss, one.rows) for one in chosen.candidates] == [(None, 0)] * 2


@pytest.mark.parametrize(
    ("texts", "candidate", "own", "chosen", "listed"),
    [
        (["a", "b", "c"], 0, None, "a", ["a", "b", "c"]),
        (["a", "b", "c"], 2, None, "c", ["a", "b", "c"]),
        (["a", "b", "c"], 2, "mine", "mine", ["a", "b", "c", "mine"]),
        (["a", "b", "c"], None, "b", "b", ["a", "b", "c"]),
        ([""], 2, None, "", [""]),  # a task without an instruction
        ([""], 2, "mine", "mine", ["", "mine"]),
    ],
)
def test_a_fixed_candidate_is_the_numbered_one_or_the_text_of_ones_own(
    texts: list[str], candidate: int | None, own: str | None, chosen: str, listed: list[str]
) -> None:
    number, found = fixed_candidate("t", texts, candidate, own)
    assert (found[number], found) == (chosen, listed)


def test_a_fixed_candidate_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="t has no candidate 3, its last one is number 2"):
        fixed_candidate("t", ["a", "b", "c"], 3, None)
