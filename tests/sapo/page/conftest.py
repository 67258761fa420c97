"""A run made by hand, and pages of it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from browser import chromium
from by_hand import run_by_hand
from pages import ORDER, STAGES
from sapo.analysis import tables
from sapo.analysis.intervals import row_tables
from sapo.analysis.summarise import summarise
from sapo.artifacts.run_record import RunName
from sapo.artifacts.summary import Summary
from sapo.page.answers import TaskAnswers
from sapo.page.run import write_page


@pytest.fixture(scope="session")
def summary_and_page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Callable[..., Path]]:
    """A run's summary, and a function that writes its page with these answers."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = run_by_hand(ORDER, [[8, 4], [70, 30], [50, 75]])
    rows = row_tables(run.rows(), STAGES, ORDER, "rows")
    metrics, cells = summarise(run.stages, ORDER, "chosen", rows["chosen"], "rows")
    original, _ = summarise(run.stages, ORDER, "original", rows["original"], "rows")
    name = RunName(method="lora_inc_sapo", model="tiny", seed=1, sequence="by_hand")
    summary = Summary.of(name, metrics, original, run.stages[0].run)
    lines = {
        "scores": tables.scores_table(run.stages, ORDER, cells),
        "candidates": tables.candidates_table(run.prompts),
        "training": tables.training_table(run.lineage),
    }

    def write(path: Path, answers: Sequence[TaskAnswers]) -> Path:
        write_page(path, summary, run.stages, run.prompts, run.lineage, answers, lines)
        return path

    return summary, write


@pytest.fixture(scope="session")
def write(summary_and_page: tuple[Summary, Callable[..., Path]]) -> Callable[..., Path]:
    return summary_and_page[1]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started
