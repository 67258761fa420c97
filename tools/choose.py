"""The instruction of lowest loss under a model as it is now: SAPO's selection, without the pipeline.

usage: python tools/choose.py --model FOLDER --task FOLDER/TASK --candidates FILE [--adapter FOLDER]
"""

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from pydantic import ValidationError

from sapo.artifacts.chosen_prompt import Candidate
from sapo.artifacts.scores import Kind
from sapo.artifacts.task import Example, Task
from sapo.candidates.file import checked
from sapo.config import Model, Prompt, Selection
from sapo.data.folder import load_folder_tasks
from sapo.runtime.command import about_storage, one_line
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_text, read_yaml, sha256_json
from sapo.runtime.imports import quick_imports

CONF = Path(__file__).parents[1] / "conf/model"
# What errors call by its setting is an option here
OPTIONS = {
    "model.id": "--model",
    "model.wheel": "--model",
    "model.template_options": "--template-options",
    "prompt.max_tokens": "--max-tokens",
    "evaluate.max_new_tokens": "--max-new-tokens",
    "sequence.path": "--task",
    "data.test_rows": "--test-rows",
}
WIDTH = 70  # characters of an instruction that the table shows


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Each candidate instruction's loss on a task's training rows, and the one to train with."
    )
    parser.add_argument(
        "--model", required=True, help="a model's folder; or NAME of conf/model/NAME.yaml; or a hub id"
    )
    parser.add_argument("--revision", help="of a hub id: the 40-digit commit")
    parser.add_argument("--adapter", help="folder of a PEFT LoRA adapter that the model has already learned")
    parser.add_argument(
        "--task", required=True, help="FOLDER/TASK beside FOLDER/instructions.json, or FOLDER/TASK.json"
    )
    parser.add_argument(
        "--candidates",
        required=True,
        help="YAML: a list of instructions, or lists under tasks' names; .txt: one a line",
    )
    parser.add_argument("--rows", type=int, default=250, help="the first training rows (default 250)")
    parser.add_argument("--search", choices=get_args(Selection.model_fields["search"].annotation))
    parser.add_argument("--max-tokens", type=int, default=1536, help="of a prompt (default 1536)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="default: NAME's own, else float32")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="at a time (default 2048)")
    parser.add_argument("--template-options", metavar="JSON", help="given to the chat template")
    parser.add_argument("--answer", action="store_true", help="also answer the test rows, and score them")
    parser.add_argument("--test-rows", type=int, default=100, help="the first ones (default 100)")
    parser.add_argument("--max-new-tokens", type=int, default=128, help="of an answer (default 128)")
    parser.add_argument("--seed", type=int, default=1, help="draws the training rows of a TASK.json")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the result there too")
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        choose(arguments)
    except DataError as error:
        named = re.sub("|".join(map(re.escape, OPTIONS)), lambda name: OPTIONS[name[0]], str(error))
        sys.exit(f"error: {one_line(named)}")
    except OSError as error:
        sys.exit(f"error: {one_line(f'{error}{about_storage(error)}')}")


def choose(asked: argparse.Namespace) -> None:
    """Measure, print, and write what was asked for. Raises DataError for what cannot be used."""
    for name in ("rows", "max_tokens", "batch_tokens", "test_rows", "max_new_tokens"):
        if getattr(asked, name) < 1:
            raise DataError(f"--{name.replace('_', '-')} must be at least 1")
    if asked.json and asked.json.is_dir():
        raise DataError(f"--json {asked.json} is a folder: name a file")
    model, task = model_of(asked), task_of(asked)
    texts = [task.instruction, *candidates_of(Path(asked.candidates), task)]
    settings = Selection(
        rows=asked.rows, batch_tokens=asked.batch_tokens, search=asked.search or "exhaustive", confidence=0.95
    )
    with quick_imports():
        from sapo.artifacts.base_model import read_base
        from sapo.artifacts.choice import Choice
        from sapo.artifacts.run_record import Reading
        from sapo.artifacts.versions import versions
        from sapo.models.check import check_model
        from sapo.models.devices import device
        from sapo.models.load import load_model, load_tokenizer
        from sapo.models.make import make_base
        from sapo.prompts.encoder import PromptEncoder
        from sapo.selection.measure import measure

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_base(model, folder)
        new_tokens = asked.max_new_tokens if asked.answer else 0
        check_model(folder, asked.max_tokens, new_tokens, model.template_options)
        about, tokenizer = read_base(folder), load_tokenizer(folder)
        loaded = load_model(folder, model.dtype)
    encoder = PromptEncoder(tokenizer, asked.max_tokens, model.template_options)
    best, candidates = measure(loaded, encoder, task, texts, settings, settings.search)
    print("\n".join(table(candidates, best)))
    print(f"\nchoice: {one_line(texts[best]) or '(empty)'}")
    scores = None
    if asked.answer:
        prompts: dict[Kind, str] = {"original": texts[0]}
        if best:
            prompts["chosen"] = texts[best]
        scores = answered(loaded, tokenizer, encoder, task, prompts, asked)
        scores.setdefault("chosen", scores["original"])
    if asked.json:
        reading = Reading(
            prompt=Prompt(max_tokens=asked.max_tokens),
            dtype=model.dtype,
            template_options=model.template_options,
            template=encoder.template_sha256,
        )
        Choice(
            task=task.name,
            source=dict(task.source),
            base=about,
            reading=reading,
            selection=settings,
            seed=asked.seed,
            rows=len(task.train),
            train=rows_sha256(task.train),
            versions=versions(),
            device=device().type,
            chosen=best,
            instruction=texts[best],
            candidates=candidates,
            test_rows=len(task.test) if scores else 0,
            test=rows_sha256(task.test) if scores else None,
            max_new_tokens=new_tokens,
            scores=scores,
        ).write(asked.json)


def model_of(asked: argparse.Namespace) -> Model:
    """The model that the options name, as a model of conf/ is described."""
    known: dict[str, Any] = {
        "dtype": "float32",
        "target_modules": ["none is trained"],
        "template_options": {},
    }
    if asked.revision:
        known |= {
            "name": "hub",
            "source": "hub",
            "id": asked.model,
            "revision": asked.revision,
            "wheel": None,
        }
    elif Path(asked.model).is_dir() or not (named := CONF / f"{asked.model}.yaml").is_file():
        known |= {"name": "folder", "source": "folder", "id": asked.model, "revision": None, "wheel": None}
    else:
        known = read_yaml(named)
    if asked.template_options:
        try:
            known["template_options"] = json.loads(asked.template_options)
        except ValueError as error:
            raise DataError(f"--template-options is not JSON: {error}") from None
    try:
        return Model.model_validate(
            known | {"adapter": asked.adapter, "dtype": asked.dtype or known["dtype"]}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"model.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def task_of(asked: argparse.Namespace) -> Task:
    """The task's first rows."""
    path = Path(asked.task).absolute()
    name = path.stem if path.suffix == ".json" else path.name
    [task] = load_folder_tasks([name], str(path.parent), (asked.rows, asked.test_rows), asked.seed)
    return task


def rows_sha256(rows: Sequence[Example]) -> str:
    """What rows are told apart by, in their order."""
    return sha256_json([example.row() for example in rows])


def candidates_of(path: Path, task: Task) -> list[str]:
    """The instructions of the file, checked as the pipeline checks a user's, without the original."""
    if path.suffix == ".txt":
        listed: Any = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    else:
        content = read_yaml(path)
        listed = content.get(task.name) if isinstance(content, dict) else content
    if not isinstance(listed, list) or not listed:
        raise DataError(f"{path} has no list of instructions for {task.name}")
    others = [
        text for text in listed if not isinstance(text, str) or text.strip() != task.instruction.strip()
    ]
    if not others:
        raise DataError(f"{path} lists no instruction beside the original: there is nothing to choose")
    return checked(others, task, str(path))


def table(candidates: list[Candidate], best: int) -> list[str]:
    """A line a candidate: those measured on all rows by their loss, then the others; * is the choice."""
    lines = [f"  {'place':>5}  {'loss':>8}  {'rows':>5}  instruction (loss: nats a token)"]
    order = sorted(candidates, key=lambda one: (one.place is None, one.place, one.loss))
    for one in order:
        text = one_line(one.instruction)
        shown = text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
        mark, place = "*" if one is candidates[best] else " ", one.place or "-"
        original = "(original) " if one.original else ""
        lines.append(f"{mark} {place:>5}  {one.loss:8.4f}  {one.rows:>5}  {original}{shown}")
    return lines


def answered(
    model: Any, tokenizer: Any, encoder: Any, task: Task, prompts: dict[Kind, str], asked: argparse.Namespace
) -> dict[Kind, dict[str, float]]:
    """Print and return each metric's mean over the test rows under each instruction."""
    from sapo.analysis.answer_metrics import METRICS, row_scores
    from sapo.answers.greedy import answer

    stop = {end for end in (encoder.end_of_turn, tokenizer.eos_token_id) if end is not None}
    scores: dict[Kind, dict[str, float]] = {}
    print(f"\n{len(task.test)} test rows" + "".join(f"  {metric.label}" for metric in METRICS.values()))
    for kind, text in prompts.items():
        rows = encoder.encode(text, task.suffix, task.language, task.test, answers=True)
        found, likelihoods = answer(
            model, rows, stop, encoder.end_of_turn, asked.max_new_tokens, asked.batch_tokens, kind
        )
        texts = [one.strip() for one in tokenizer.batch_decode(found, skip_special_tokens=True)]
        of_rows = row_scores(texts, [one.references for one in task.test], likelihoods, task.name)
        scores[kind] = {metric: fmean(values) for metric, values in of_rows.items()}
        print(
            f"{kind:13}"
            + "".join(
                f"  {metric.shown(scores[kind][name]):>{len(metric.label)}}"
                for name, metric in METRICS.items()
            )
        )
    return scores


if __name__ == "__main__":
    main()
