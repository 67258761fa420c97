"""What decides a number, recorded beside it, and the check that all numbers of a report are of one run.

Equal runs give equal records: nothing in them names a machine, a time or a path.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sapo.files import DataError, read_json, read_object, sha256_file, sha256_json
from sapo.parallel import device
from sapo.stage import versions

if TYPE_CHECKING:
    from sapo.params import Params

WEIGHTS = "adapter_model.safetensors"  # of an adapter's folder
HOW = {"batch_tokens", "checkpoints", "gradient_checkpointing"}  # change memory and time, not results
AGAIN = "they are of different runs; `dvc repro -f` makes all of them anew"

Record = dict[str, Any]


def prompt_hash(instruction: str, suffix: str, language: str) -> str:
    """The sha256 of what a task is asked with, beside its rows."""
    return sha256_json([instruction, suffix, language])


def answers_record(params: "Params", fingerprint: str, adapter: Path | None, tasks: Path, asked: Mapping[str, str]) -> Record:
    """What decides the answers of one stage.

    fingerprint: the base model's. adapter: the weights that answered, if any. tasks: the folder of all tasks.
    asked: task -> `prompt_hash`.
    """
    engine = {"vllm": version("vllm")} if params.evaluate.engine == "vllm" else {}
    return {
        "base": fingerprint,
        "adapter": _sha256(adapter),
        "settings": _reading(params) | {"evaluate": params.evaluate.model_dump(exclude=HOW)},
        "tasks": {task: _task(tasks / task) | {"prompt": prompt} for task, prompt in asked.items()},
        "versions": versions() | engine,
        "device": device().type,
    }


def selection_record(params: "Params", fingerprint: str, adapter: Path | None, task: Path) -> Record:
    """What decides the losses of a task's candidates. adapter: the weights that they were measured under; task: its folder."""
    return {
        "base": fingerprint,
        "adapter": _sha256(adapter),
        "train": sha256_file(task / "train.jsonl"),
        "settings": _reading(params) | {"selection": params.selection.model_dump(exclude=HOW)},
        "versions": versions(),
        "device": device().type,
    }


def training_record(params: "Params", fingerprint: str, start: Path | None, task: Path, prompt: Mapping[str, Any]) -> Record:
    """What decides one task's training. start: the weights that it started from, if any; task: its folder."""
    return {
        "base": fingerprint,
        "started_from": _sha256(start),
        "train": sha256_file(task / "train.jsonl"),
        "prompt": prompt_hash(prompt["instruction"], prompt["suffix"], prompt["language"]),
        "seed": params.seed,
        "settings": _reading(params)
        | {
            "selector": prompt["selector"],
            "orthogonal_weight": params.method.orthogonal_weight,
            "lora": params.lora.model_dump(),
            "train": params.train.model_dump(exclude=HOW),
            "target_modules": params.model.target_modules,
        },
        "versions": versions(),
        "device": device().type,
    }


def _reading(params: "Params") -> Record:
    """The settings that decide how any model reads any row."""
    return {
        "prompt": params.prompt.model_dump(),
        "dtype": params.model.dtype,
        "template_options": params.model.template_options,
    }


def _sha256(path: Path | None) -> str | None:
    return sha256_file(path) if path else None


def _task(folder: Path) -> Record:
    rows = read_json(folder / "task.json")["splits"]["test"]["rows"]
    return {"rows": rows, "test": sha256_file(folder / "test.jsonl"), "about": sha256_file(folder / "task.json")}


def data_fingerprint(record: Mapping[str, Any]) -> str:
    """What all test rows of an `answers_record` are told apart by."""
    return sha256_json({task: [about["test"], about["about"]] for task, about in record["tasks"].items()})


def read_lineage(path: str | Path, order: Sequence[str]) -> dict[str, Any]:
    """How the last model came to be. Raises DataError where it is of another run or lacks what a report shows."""
    lineage = read_object(path, base=dict, method=dict, seed=int, tasks=list, versions=dict)
    try:
        learned = [entry["task"] for entry in lineage["tasks"]]
        candidates = [(c["loss"], c["rows"]) for e in lineage["tasks"] for c in e["prompt"]["candidates"]]
        numbers = [loss for loss, _ in candidates if loss is not None]
        numbers += [h[key] for e in lineage["tasks"] for h in e["history"] for key in ("step", "loss")]
        numbers += [e["prompt"]["chosen"] for e in lineage["tasks"]]
        whole = all(isinstance(number, int | float) for number in numbers)
        whole = whole and bool(lineage["base"]["fingerprint"] and lineage["base"]["name"] and lineage["method"]["name"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not what the train stage writes ({error!r}): run `dvc repro`") from error
    if learned != list(order) or not whole:
        raise DataError(f"{path} is of another run or damaged: it has learned {learned}, expected {order}; run `dvc repro`")
    return lineage


def check_one_run(rows: Sequence[Mapping[str, Any]], lineage: Mapping[str, Any], adapter: str, where: str) -> None:
    """Refuse scores that are not all of one run, and of the models that the lineage describes.

    rows: a stage each, the base model's first, in the lineage's order. adapter: sha256 of the last model's weights.
    Raises DataError that names the row and the field.
    """
    try:
        _check_one_run(rows, lineage, adapter, where)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where} or the lineage has a damaged record of its run ({error!r}): {AGAIN}") from error


def _check_one_run(rows: Sequence[Mapping[str, Any]], lineage: Mapping[str, Any], adapter: str, where: str) -> None:
    learned = lineage["tasks"]
    names = [f"{where}, row {row['stage']}" for row in rows]
    trained = [f"the lineage of {entry['task']}" for entry in learned]
    for owner, name in zip([*rows, *learned], [*names, *trained], strict=True):
        if not owner.get("run"):
            raise DataError(f"{name} has no record of its run: `dvc repro -f` makes all of them anew")

    first, start = rows[0]["run"], learned[0]["run"]
    reading = {key: first["settings"][key] for key in ("prompt", "dtype", "template_options")}
    for number, (row, name) in enumerate(
        zip(rows, names, strict=True)
    ):  # row i: the model after i tasks; entry i started from it
        answered = learned[number]["run"]["started_from"] if number < len(learned) else adapter
        asked = {entry["task"]: {"prompt": _asked(entry, place < number)} for place, entry in enumerate(learned)}
        _expect(row["run"], {"adapter": answered, "tasks": asked}, name, "that of the models")
        tasks = {task: about | asked.get(task, {}) for task, about in first["tasks"].items()}
        _expect(row["run"], first | {"adapter": answered, "tasks": tasks}, name, f"that of row {rows[0]['stage']}")
    for entry, name in zip(learned, trained, strict=True):
        run = entry["run"]
        own = {key: run[key] for key in ("started_from", "train", "prompt")}
        _expect(run, start | own, name, f"that of {learned[0]['task']}")
        _expect(run, {"base": first["base"], "settings": reading}, name, f"that of the scores in {where}")
        if measured := entry["prompt"].get("run"):  # none where no candidate was measured
            same = {"base": run["base"], "adapter": run["started_from"], "train": run["train"], "settings": reading}
            _expect(measured, same, f"the candidates of {entry['task']}", "that of its training")
    _expect(start, {"started_from": None}, trained[0], "null, although no task was trained before")


def _asked(entry: Mapping[str, Any], trained: bool) -> str:
    """The hash of what a task is asked with: the prompt it was trained with, the original one before that."""
    prompt = entry["prompt"]
    return entry["run"]["prompt"] if trained else prompt_hash(prompt["original"], prompt["suffix"], prompt["language"])


def _expect(record: Record, expected: Record, name: str, whose: str) -> None:
    """Refuse a record in which a field of `expected`, at whatever depth, is missing or another."""
    found = _flat(record)
    for field, value in _flat(expected).items():
        if field not in found or found[field] != value:
            raise DataError(f"{name}: {field} is not {whose}; {AGAIN}")


def _flat(record: Record, prefix: str = "") -> Record:
    """Dotted field -> value; what a chat template is given stays one value."""
    fields: Record = {}
    for key, value in record.items():
        whole = not isinstance(value, Mapping) or key == "template_options"
        fields |= {prefix + key: value} if whole else _flat(dict(value), f"{prefix}{key}.")
    return fields
