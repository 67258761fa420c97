"""Which candidate is chosen from the losses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.selection.selectors import choose, ranks

untimed = settings(deadline=None)  # how long a test takes depends on the machine
# few values, so that ties are common
losses_lists = st.lists(st.floats(0, 20) | st.sampled_from([1.0, 2.0]), min_size=1, max_size=21)


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
def test_the_original_selector_takes_the_original_whatever_the_losses(losses: list[float], seed: int) -> None:
    assert choose("original", losses, seed) == 0


@untimed
@given(losses=losses_lists, seed=st.integers(0))
def test_random_is_decided_by_the_seed_and_not_by_the_losses(losses: list[float], seed: int) -> None:
    chosen = choose("random", losses, seed)
    assert chosen in range(len(losses))
    assert chosen == choose("random", losses, seed) == choose("random", losses[::-1], seed)


def test_random_reaches_every_candidate_over_the_seeds() -> None:
    assert {choose("random", [1.0] * 5, seed) for seed in range(200)} == set(range(5))


@untimed
@given(losses=losses_lists)
def test_ranks_are_a_permutation_that_sorts_the_losses_with_ties_in_order(losses: list[float]) -> None:
    ranked = ranks(losses)
    assert sorted(ranked) == list(range(1, len(losses) + 1))
    by_rank = sorted(range(len(losses)), key=lambda index: ranked[index])
    assert [(losses[index], index) for index in by_rank] == sorted((loss, index) for index, loss in enumerate(losses))


@untimed
@given(losses=losses_lists)
def test_the_candidate_that_sapo_takes_has_rank_one(losses: list[float]) -> None:
    assert ranks(losses)[choose("sapo", losses, seed=0)] == 1


def test_an_unknown_selector_is_refused() -> None:
    with pytest.raises(ValueError, match="'lowest'"):
        choose("lowest", [1.0], seed=0)
