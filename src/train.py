"""train TASK: train a new LoRA on top of the earlier ones -> models/TASK/ (one stock PEFT adapter), plots/train/TASK/."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from sapo.adapters import LINEAGE, check_continues, fold, load_adapter, save_adapter, stack
from sapo.cards import model_card
from sapo.files import DataError, output_folder, read_object, sha256_file, sha256_json
from sapo.models import load_model, load_tokenizer, read_base
from sapo.parallel import is_main, shard
from sapo.params import Params, check_task, load_params
from sapo.prompts import PromptEncoder
from sapo.provenance import write_provenance
from sapo.records import WEIGHTS, training_record
from sapo.stage import run, versions
from sapo.tasks import load_task
from sapo.training import Trained, forget_checkpoints, new_lora, train_task

SCALARS = ("loss", "grad_norm", "learning_rate")


def train(name: str) -> None:
    params = load_params()
    check_task(params, name)
    position = params.sequence.order.index(name)
    after = params.sequence.tasks[name].after
    seed = params.seed + position  # another start and row order for each task
    task, base, chosen = load_task(f"data/tasks/{name}"), read_base("models/base"), f"data/prompts/{name}.json"
    prompt = read_object(chosen, task=str, after=str, selector=str, instruction=str, original=str, suffix=str, language=str)
    expected = {"task": name, "after": after, "original": task.instruction, "suffix": task.suffix, "language": task.language}
    if odd := [key for key, value in expected.items() if prompt[key] != value]:
        raise DataError(f"{chosen} is of another run, see its {', '.join(odd)}: run `dvc repro` for this task")

    # The model as it is now: earlier tasks' updates folded into the weights, so a step costs the same for every task.
    tokenizer = load_tokenizer("models/base")
    model = load_model("models/base", params.model.dtype, "cpu" if params.launch.shard else None)
    learned_before = params.sequence.order[:position]
    previous = load_adapter(Path("models") / after, base["fingerprint"], learned_before) if after != "base" else None
    if previous:
        check_continues(previous, params.lora, params.model.target_modules, Path("models") / after)
        fold(model, previous)
    adapted = new_lora(model, params.lora, params.model.target_modules, seed)
    if params.launch.shard:
        shard(model)

    encoder = PromptEncoder(tokenizer, params.prompt.max_tokens, params.model.template_options)
    rows = encoder.encode(prompt["instruction"], prompt["suffix"], prompt["language"], task.train, answers=True)

    # Checkpoints stay outside the outputs, under a key of all inputs: a run that was killed goes on, another one starts anew,
    # and so does one under other code or libraries.
    inputs = [
        params.model_dump(include={"seed", "lora", "train", "prompt", "model"}),
        params.method.orthogonal_weight,
        prompt,
        base,
    ]
    inputs += [sha256_file(f"data/tasks/{name}/train.jsonl"), sha256_file(f"models/{after}/{WEIGHTS}") if previous else None]
    inputs += [versions(), [sha256_file(path) for path in sorted(Path(__file__).parent.glob("**/*.py"))]]
    checkpoints = Path(".checkpoints") / f"{name}-{sha256_json(inputs)[:16]}"
    trained = train_task(
        adapted,
        rows,
        train=params.train,
        seed=seed,
        pad=encoder.end_of_turn,
        checkpoints=checkpoints,
        earlier_a=previous.a if previous else {},
        orthogonal_weight=params.method.orthogonal_weight,
    )

    if not is_main():
        return
    learned: list[dict[str, Any]] = previous.lineage["tasks"] if previous else []
    start = Path("models") / after / WEIGHTS if previous else None
    record = training_record(params, base["fingerprint"], start, Path("data/tasks") / name, prompt)
    learned = [*learned, {"task": name, "prompt": prompt, "rows": len(rows), "run": record, "history": trained.history}]
    lineage = lineage_of(params, base) | {"tasks": learned}
    with output_folder(Path("models") / name) as folder:
        tensors = stack(previous, trained.state)
        save_adapter(folder, tensors, params.lora, params.model.target_modules, lineage, model_card(lineage))
        write_scalars(Path("plots/train") / name, trained)  # when nothing can be wrong with the adapter any more
    write_provenance(f"metrics/provenance/train-{name}.json", params, rows=len(rows), steps=len(trained.history))
    forget_checkpoints(checkpoints)
    print(f"{name}: loss {trained.history[0]['loss']:.3f} -> {trained.history[-1]['loss']:.3f}, saved with its {LINEAGE}")


def lineage_of(params: Params, base: dict[str, Any]) -> dict[str, Any]:
    """What the adapter's numbers depend on, beside the tasks it has learned."""
    return {
        "base": {key: base[key] for key in ("name", "id", "revision", "fingerprint")},
        **params.model_dump(include={"seed", "method", "lora", "train", "prompt"}),
        "sequence": params.sequence.name,
        "template_options": params.model.template_options,
        "dtype": params.model.dtype,
        "versions": versions(),
    }


def write_scalars(folder: Path, trained: Trained) -> None:
    """The training curves as DVCLive writes them, one file a scalar, step by step."""
    from dvclive import Live  # not above: it takes a second, in which this stage would not see that DVC was killed

    with tempfile.TemporaryDirectory() as scratch, output_folder(folder) as target:
        with Live(scratch, dvcyaml=None, save_dvc_exp=False, report=None) as live:
            for entry in trained.history:
                live.step = int(entry["step"])
                for name in SCALARS:
                    live.log_metric(name, entry[name])
        for name in SCALARS:
            shutil.copyfile(Path(scratch) / f"plots/metrics/{name}.tsv", target / f"{name}.tsv")


if __name__ == "__main__":
    run(train)
