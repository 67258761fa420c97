"""The check that all numbers of a report are of one run, by the records that stand beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sapo.artifacts.chosen_prompt import ChosenPrompt
from sapo.artifacts.lineage import Learned, Lineage, earlier_rows
from sapo.artifacts.run_record import PromptText, Reading
from sapo.artifacts.scores import StageScores
from sapo.config import Params
from sapo.runtime.errors import MixedRunsError, OtherRunError

Fields = Mapping[str, Any]


def check_one_run(
    stages: Sequence[StageScores],
    lineage: Lineage,
    prompts: Mapping[str, ChosenPrompt],
    adapter: str,
    where: str,
) -> None:
    """Refuse scores that are not all of one run, and of the models that the lineage describes.

    stages: the base model's first, in the lineage's order. prompts: task -> what was chosen for it. adapter:
    sha256 of the last model's weights. where: the file of the scores. Raises MixedRunsError that names the
    record and the field.
    """
    learned = lineage.tasks
    first, start = stages[0].run.model_dump(), learned[0].run.model_dump()
    reading = {field: first["settings"][field] for field in Reading.model_fields}
    for number, stage in enumerate(stages):  # stage i: the model after i tasks; task i started from it
        answered = learned[number].run.previous if number < len(learned) else adapter
        asked = {entry.task: {"prompt": _asked(entry, place < number)} for place, entry in enumerate(learned)}
        name, record = f"{where}, stage {stage.stage}", stage.run.model_dump()
        _expect(record, {"adapter": answered, "tasks": asked}, name, "that of the models")
        tasks = {task: about | asked.get(task, {}) for task, about in first["tasks"].items()}
        _expect(
            record, first | {"adapter": answered, "tasks": tasks}, name, f"that of stage {stages[0].stage}"
        )
    for number, entry in enumerate(learned):
        name, record = f"the lineage of {entry.task}", entry.run.model_dump()
        own = {field: record[field] for field in ("previous", "train", "prompt", "earlier")}
        _expect(record, start | own, name, f"that of {learned[0].task}")
        again = [rows.model_dump() for rows in earlier_rows(lineage.method, learned[:number])]
        _expect(record, {"earlier": again}, name, "that of the tasks before it")
        _expect(record, {"settings": _method(lineage)}, name, "that of the method")
        _expect(record, {"base": first["base"], "settings": reading}, name, f"that of the scores in {where}")
        if measured := prompts[entry.task].run:  # none where no candidate was measured
            same = {field: record[field] for field in ("base", "train")} | {"adapter": entry.run.previous}
            candidates = f"the candidates of {entry.task}"
            _expect(measured.model_dump(), same | {"settings": reading}, candidates, "that of its training")
    _expect(
        start,
        {"previous": None},
        f"the lineage of {learned[0].task}",
        "null, although no task was trained before",
    )


def check_params(params: Params, lineage: Lineage) -> None:
    """Refuse (OtherRunError) a params.yaml that names another method, model or seed than the lineage."""
    trained = {"method": lineage.method.name, "model": lineage.base.name, "seed": lineage.seed}
    for field, value in {
        "method": params.method.name,
        "model": params.model.name,
        "seed": params.seed,
    }.items():
        if trained[field] != value:
            raise OtherRunError(
                f"params.yaml has {field} {value}, but the models were trained with {trained[field]}"
            )


def _method(lineage: Lineage) -> Fields:
    """What the settings of each training say of the method."""
    return lineage.method.model_dump(include={"adapter", "replay"})


def _asked(entry: Learned, trained: bool) -> str:
    """The hash of a task's prompt: the one it was trained with, before that its own."""
    prompt = entry.prompt
    own = PromptText(instruction=entry.original, suffix=prompt.suffix, language=prompt.language)
    return entry.run.prompt if trained else own.sha256


def _expect(record: Fields, expected: Fields, name: str, whose: str) -> None:
    """Refuse a record in which a field of `expected`, at whatever depth, is missing or another."""
    found = _flat(record)
    for field, value in _flat(expected).items():
        if field not in found or found[field] != value:
            raise MixedRunsError(f"{name}: {field} is not {whose}: they are of different runs")


def _flat(record: Fields, prefix: str = "") -> dict[str, Any]:
    """Dotted field -> value; what a chat template is given stays one value."""
    fields: dict[str, Any] = {}
    for key, value in record.items():
        whole = not isinstance(value, Mapping) or key == "template_options"
        fields |= {prefix + key: value} if whole else _flat(value, f"{prefix}{key}.")
    return fields
