"""Answers made by hand for a page, and what a page holds of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sapo.analysis.answer_metrics import METRICS
from sapo.artifacts.predictions import Prediction
from sapo.artifacts.run_record import PromptText
from sapo.artifacts.task import Example, Task
from sapo.page.answers import TaskAnswers

ORDER = ["mood", "story"]
STAGES = ["base", *ORDER]
Row = tuple[
    str, str, list[tuple[str, float]]
]  # text, right answer, and of each stage what was said and its score


def answered(name: str, trained: int | None, rows: Sequence[Row], labels: Sequence[str] = ()) -> TaskAnswers:
    """A task's answers; a score is that of each metric in percent, and all log-likelihoods are -1."""
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


def data_of(path: Path) -> dict[str, Any]:
    """The answers that a page holds."""
    text = path.read_text(encoding="utf-8")
    found = text.partition('id="answers-data">')[2].partition("</script>")[0]
    return json.loads(found)
