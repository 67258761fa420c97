"""What became of a row, and what of it a page holds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pages import STAGES, answered, data_of
from sapo.page.answers import for_page
from sapo.page.html import LARGEST
from sapo.page.texts import in_script


def of_row(*scores: float, trained: int | None = 1, labels: tuple[str, ...] = ()) -> str:
    """The state of a row with these scores after base, mood and story."""
    return answered("mood", trained, [("t", "r", [("a", score) for score in scores])], labels).state(0)


@pytest.mark.parametrize(
    ("scores", "state"),
    [
        ((0, 100, 100), "kept"),
        ((0, 100, 0), "forgotten"),
        ((100, 0, 0), "never learned"),
        ((0, 0, 100), "learned later"),
    ],
)
def test_with_labels_an_answer_is_right_or_wrong(scores: tuple[float, ...], state: str) -> None:
    assert of_row(*scores, labels=("r", "s")) == state


@pytest.mark.parametrize(
    ("scores", "state"),
    [
        ((0, 60, 31), "kept"),
        ((0, 60, 30), "forgotten"),
        ((90, 0, 0), "never learned"),
        ((0, 0, 5), "learned later"),
        ((0, 40, 80), "kept"),
    ],
)
def test_free_text_is_forgotten_where_half_of_what_it_had_is_lost(
    scores: tuple[float, ...], state: str
) -> None:
    assert of_row(*scores) == state


def test_the_last_task_is_kept_or_never_learned_and_a_probe_neither() -> None:
    assert of_row(0, 50, 100, trained=2, labels=("r",)) == "kept"
    assert of_row(100, 100, 0, trained=2, labels=("r",)) == "never learned"
    assert of_row(0, 100, 0, trained=None) == "not trained"


def test_a_page_holds_every_answer_once_with_its_prompt_and_scores() -> None:
    rows = [(f"text {n}", "yes", [("yes", 100.0 / 3), ("yes", 100.0), ("no", 0.0)]) for n in range(3)]
    content = for_page([answered("mood", 1, rows, ("yes", "no"))], STAGES, LARGEST)
    assert content["of"] == len(content["rows"]) == 3
    texts = content["texts"]
    task, number, state, text, references, answers = content["rows"][1]
    assert (task, number, state, texts[text]) == (0, 1, "forgotten", "text 1")
    assert [texts[n] for n in references] == ["yes"]
    assert [(texts[n], *scores) for n, *scores in answers] == [
        ("yes", 33.3, 33.3, 33.3, -1),
        ("yes", 100, 100, 100, -1),
        ("no", 0, 0, 0, -1),
    ]
    assert sorted(texts) == ["no", "text 0", "text 1", "text 2", "yes"]
    asked = [content["prompts"][n] for n in content["tasks"][0]["prompts"]]
    assert asked[0] == ["Say mood.\n\nText:\n", "\n\nAnswer:"]
    assert asked[1] == asked[2] == ["Better mood.\n\nText:\n", "\n\nAnswer:"]


def test_a_page_that_would_be_too_large_has_a_drawn_sample_and_says_so(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [(f"{n} " + "x" * 1500, "yes", [(f"{n} {s}", 1.0) for s in STAGES]) for n in range(3000)]
    answers = [answered("mood", 1, rows), answered("story", 2, rows[:5])]
    path = write(tmp_path / "report.html", answers)
    size, content = path.stat().st_size, data_of(path)
    assert 0.95 * LARGEST < size <= LARGEST
    assert content["of"] == 3005
    assert len(content["rows"]) < 3005
    numbers = [row[1] for row in content["rows"]]
    assert numbers[:-1] != list(range(len(numbers) - 1))  # not only the first ones
    assert f"{len(numbers)} of 3005 test rows, drawn at random" in path.read_text(encoding="utf-8")
    first = path.read_bytes()
    assert write(tmp_path / "report.html", answers).read_bytes() == first
    room = len(in_script(content).encode())
    assert len(in_script(for_page(answers, STAGES, room // 2)).encode()) <= room // 2
