"""plots/report.html: a run's numbers, charts, wordings and answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sapo.analysis import look
from sapo.analysis.answer_metrics import METRICS, Metric
from sapo.analysis.intervals import ALONE
from sapo.analysis.tables import Line
from sapo.artifacts.chosen_prompt import ChosenPrompt
from sapo.artifacts.lineage import Learned, Lineage
from sapo.artifacts.run_record import TestedTask
from sapo.artifacts.scores import Kind, StageScores
from sapo.artifacts.summary import HEADLINE_METRIC, HEADLINE_NAMES, Summary
from sapo.page import charts
from sapo.page.answers import NOT_TRAINED, STATES, TaskAnswers, for_page
from sapo.page.html import LARGEST, page
from sapo.page.texts import in_script, visible
from sapo.runtime.outputs import write_text

SECTIONS = [
    ("headline", "Headline"),
    ("scores", "Scores"),
    ("candidates", "Candidates"),
    ("training", "Training"),
    ("answers", "Answers"),
    ("settings", "Settings"),
]
CAPTIONS = {
    "matrix": look.MATRIX,
    "stages": look.STAGES,
    "candidates": look.CANDIDATES,
    "training": look.TRAINING,
    "bars": look.BARS.capitalize(),
}
KINDS: tuple[Kind, ...] = ("chosen", "original")


def write_page(
    path: Path,
    summary: Summary,
    stages: Sequence[StageScores],
    prompts: Mapping[str, ChosenPrompt],
    lineage: Lineage,
    answers: Sequence[TaskAnswers],
    lines: Mapping[str, Sequence[Line]],
) -> None:
    """Write the page. lines: those of scores.csv, candidates.csv and training.csv, by the file's stem.

    The same run gives the same bytes, at most LARGEST of them: where the answers would pass that, a drawn
    sample of them is on the page.
    """
    head = METRICS[HEADLINE_METRIC]
    values, ends = summary.values(HEADLINE_METRIC, "chosen"), summary.intervals(HEADLINE_METRIC, "chosen")
    names = [name for name in HEADLINE_NAMES if name in values]
    every = [*names, *(name for name in values if name not in names)]
    evaluated = [one.task.name for one in answers]
    wordings = {task: _wordings(prompt) for task, prompt in prompts.items()}
    content = {
        "title": f"{summary.method}, {summary.model}: {summary.sequence}, seed {summary.seed}",
        "sections": SECTIONS,
        "captions": CAPTIONS,
        "metrics": METRICS,
        "summary": summary,
        "order": lineage.learned,
        "probes": evaluated[len(lineage.tasks) :],
        "headline": [
            (name, head.shown(values[name]), head.ends(ends[name]), look.MEANINGS[name]) for name in names
        ],
        "headline_metric": head,
        "covered": look.COVERED,
        "alone": ALONE if any(None not in pair and pair[0] == pair[1] for pair in ends.values()) else "",
        "every_head": ["metric", *every],
        "every": {kind: _every(summary, kind, every) for kind in KINDS},
        "scores_head": [look.STAGE, *evaluated],
        "scores": {name: _scores(name, stages, evaluated, lines["scores"]) for name in METRICS},
        "candidates_chart": charts.candidates(_told(lines["candidates"], prompts))
        if lines["candidates"]
        else "",
        "wordings": wordings,
        "trained_with": [
            one | {"task": task} for task, each in wordings.items() for one in each if one["chosen"]
        ],
        "training_chart": charts.training(lines["training"]),
        "states": STATES,
        "states_head": ["task", *STATES, "test rows"],
        "states_table": [_states(one) for one in answers],
        "settings": _settings(summary, lineage, stages[-1]),
    }
    without = page("report.html.j2", **content, answers=for_page(answers, [], 0), answers_json="")
    room = LARGEST - len(without.encode())
    shown = for_page(answers, [one.stage for one in stages], room)
    write_text(path, page("report.html.j2", **content, answers=shown, answers_json=in_script(shown)))


def _every(summary: Summary, kind: Kind, names: Sequence[str]) -> list[list[str]]:
    """A line a metric of answers: each continual-learning metric and its interval."""
    found = []
    for metric, of in METRICS.items():
        values, ends = summary.values(metric, kind), summary.intervals(metric, kind)
        found.append([of.label, *(f"{of.shown(values[name])} {of.ends(ends[name])}" for name in names)])
    return found


def _scores(
    metric: str, stages: Sequence[StageScores], evaluated: Sequence[str], lines: Sequence[Line]
) -> dict[str, Any]:
    cells = {(line["stage"], line["task"]): _cell(line, metric, METRICS[metric]) for line in lines}
    bounds = charts.scale(lines, metric)
    return {
        "matrix": charts.matrix(lines, metric, bounds),
        "stages": charts.stages(lines, metric, bounds),
        "table": [[one.stage, *(cells[one.stage, task] for task in evaluated)] for one in stages],
    }


def _cell(line: Line, name: str, metric: Metric) -> str:
    return f"{metric.shown(line[name])} {metric.ends([line[f'{name}_low'], line[f'{name}_high']])}"


def _told(lines: Sequence[Line], prompts: Mapping[str, ChosenPrompt]) -> list[Line]:
    """The lines of candidates.csv with what is shown of each on hover."""
    told = []
    for line in lines:
        one = prompts[line["task"]].candidates[line["candidate"]]
        kind = ("original" if one.original else f"candidate {line['candidate']}") + ", chosen" * line[
            "chosen"
        ]
        told.append(
            dict(line)
            | {"about": f"{line['task']}, {kind}, loss {line['loss']:.4f}\n{visible(one.instruction)}"}
        )
    return told


def _wordings(prompt: ChosenPrompt) -> list[dict[str, Any]]:
    """A task's candidates, the lowest loss first."""
    numbered = sorted(
        enumerate(prompt.candidates), key=lambda item: (item[1].place is None, item[1].place or 0, item[0])
    )
    return [
        {
            "place": one.place or "-",
            "loss": "-" if one.loss is None else f"{one.loss:.4f}",
            "rows": one.rows,
            "kind": ("original" if one.original else f"candidate {number}")
            + ", chosen" * (number == prompt.chosen),
            "chosen": number == prompt.chosen,
            "text": one.instruction,
        }
        for number, one in numbered
    ]


def _states(one: TaskAnswers) -> list[Any]:
    counts, name = one.states(), one.task.name
    if one.trained is None:
        return [f"{name} ({NOT_TRAINED})", *("" for _ in STATES), counts.total()]
    return [
        name if one.task.labels else f"{name} (free text)",
        *(counts[state] for state in STATES),
        counts.total(),
    ]


def _settings(summary: Summary, lineage: Lineage, last: StageScores) -> dict[str, dict[str, Any]]:
    """What decided the numbers, as the records beside them have it; nothing of when and where."""
    base, record = lineage.base, last.run
    return {
        "Base model": {
            "name": base.name,
            "from": base.id,
            "revision": base.revision or "-",
            "fingerprint": base.fingerprint,
            "adapter in it": ", ".join(base.adapter.values()) if base.adapter else "-",
        },
        "Method": {**lineage.method.model_dump(), "seed": lineage.seed},
        "LoRA": lineage.lora.model_dump(),
        "Training": lineage.train.model_dump(),
        "Reading and answering": {
            **lineage.prompt.model_dump(),
            "dtype": lineage.dtype,
            **record.settings.evaluate,
        },
        "Tasks": {entry.task: _told_task(entry, record.tasks[entry.task]) for entry in lineage.tasks},
        "Made with": {
            "device": summary.device,
            **summary.versions,
            "last adapter (sha256)": record.adapter or "-",
            "test rows (sha256)": summary.test_fingerprint,
        },
    }


def _told_task(entry: Learned, tested: TestedTask) -> str:
    rows = f"{entry.rows} training rows ({entry.run.train:.12}), {tested.rows} test rows ({tested.test:.12})"
    return f"{rows}, selector {entry.selector}"
