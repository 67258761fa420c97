"""A run made by hand, and pages of it with answers made by hand."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from browser import chromium
from by_hand import run_by_hand
from sapo.analysis import tables
from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.intervals import row_tables
from sapo.analysis.summarise import summarise
from sapo.artifacts.predictions import Prediction
from sapo.artifacts.run_record import PromptText, RunName
from sapo.artifacts.summary import Summary
from sapo.artifacts.task import Example, Task
from sapo.page.answers import TaskAnswers
from sapo.page.run import write_page

ORDER = ["mood", "story"]
STAGES = ["base", *ORDER]
Row = tuple[str, str, list[tuple[str, float]]]  # text, right answer, and of each stage what was said and its score


def answered(name: str, trained: int | None, rows: Sequence[Row], labels: Sequence[str] = ()) -> TaskAnswers:
    """A task's answers. A score is ROUGE-L, and exact match where there are labels; its log-likelihood is -1."""
    examples = [Example(text, reference) for text, reference, _ in rows]
    task = Task(name, f"Say {name}.", "Answer:", [*labels], "en", None, {}, [], examples)
    own = PromptText(instruction=task.instruction, suffix=task.suffix, language="en")
    better = own.model_copy(update={"instruction": f"Better {name}."})
    prompts = [better if trained and stage >= trained else own for stage in range(len(STAGES))]
    answers = [
        [
            Prediction.model_validate(
                {"row": number, "prediction": given[stage][0], "references": [reference]}
                | dict.fromkeys(METRICS, given[stage][1])
                | {"log_likelihood": -1.0}
            )
            for number, (_, reference, given) in enumerate(rows)
        ]
        for stage in range(len(STAGES))
    ]
    return TaskAnswers(task, trained, prompts, answers)


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


def data_of(path: Path) -> dict[str, Any]:
    """The answers that a page holds."""
    text = path.read_text(encoding="utf-8")
    found = text.partition('id="answers-data">')[2].partition("</script>")[0]
    return json.loads(found)
