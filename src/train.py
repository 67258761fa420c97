"""train TASK: train a LoRA for the task -> models/TASK/ and plots/train/TASK/.

models/TASK/ is one stock PEFT adapter. The LoRA is a new one on top of those of earlier tasks, unless
method.adapter says otherwise.
"""

from pathlib import Path

from sapo.artifacts.base_model import read_base
from sapo.artifacts.chosen_prompt import prompt_sha256, read_prompt
from sapo.artifacts.lineage import Learned, Lineage, earlier_rows, model_folder, weights_path
from sapo.artifacts.provenance import write_provenance
from sapo.artifacts.run_record import TrainingRecord, training_record
from sapo.artifacts.task import load_task
from sapo.config import BASE, Params, load_params
from sapo.runtime.command import run
from sapo.runtime.files import sha256_file, sha256_json
from sapo.runtime.imports import quick_imports
from sapo.runtime.keys import TRACKERS
from sapo.runtime.outputs import output_folder
from sapo.runtime.processes import is_main, process_count
from sapo.runtime.trackers import Training, check_keys, tracking


def train(task: str) -> None:
    """Train the task, and write the adapter of all tasks up to it."""
    with quick_imports():
        from sapo.lora.current import current_adapter, current_model
        from sapo.lora.stack import check_continues, save_adapter, stack
        from sapo.models.devices import device, shard
        from sapo.models.load import load_tokenizer
        from sapo.prompts.encoder import PromptEncoder
        from sapo.training.card import model_card
        from sapo.training.checkpoints import forget_checkpoints
        from sapo.training.curves import write_curves
        from sapo.training.loop import train_task
        from sapo.training.new_lora import new_lora, start_from
        from sapo.training.rows import training_rows

    params = load_params(launched=True)
    check_keys(params.tracking.report_to)
    before = params.sequence.before(task)
    after = before[-1] if before else BASE
    seed = params.seed + len(before)  # another start and row order for each task
    about, base, kind = load_task(task), read_base(), params.method.adapter
    chosen = read_prompt(about, after)
    prompt = chosen.text

    previous = current_adapter(before)
    if previous:
        check_continues(previous, kind, params.lora, params.model.target_modules, model_folder(after))
    learned = previous.lineage.tasks if previous else []
    earlier = earlier_rows(params.method, learned)
    encoder = PromptEncoder(load_tokenizer(), params.prompt.max_tokens, params.model.template_options)
    rows = training_rows(encoder, about, prompt, learned, earlier, params.seed)

    below = previous if kind == "stacked" else None  # frozen and active
    model = new_lora(
        current_model(params, below, params.train.dtype), params.lora, params.model.target_modules, seed
    )
    if previous and kind == "single":
        start_from(model, previous)
    if params.launch.shard:
        shard(model)

    record = training_record(
        params,
        base.fingerprint,
        weights_path(after) if previous else None,
        task,
        prompt,
        earlier=earlier,
        selector=chosen.selector,
        template=encoder.template_sha256,
        device=device().type,
    )
    checkpoints = checkpoint_folder(task, record, params)
    with tracking(params.tracking.report_to, training_name(task, checkpoints, params)) as report:
        trained = train_task(
            model,
            rows,
            train=params.train,
            seed=seed,
            pad=encoder.end_of_turn,
            checkpoints=checkpoints,
            earlier_a=below.a if below else {},
            orthogonal_weight=params.orthogonal_weight,
            report=report,
        )
    if not is_main():
        return

    now = Learned(
        task=task,
        prompt=prompt,
        original=chosen.original,
        selector=chosen.selector,
        selection=prompt_sha256(task),
        rows=len(about.train),
        run=record,
        history=trained.history,
    )
    lineage = Lineage.of(params, base.in_lineage(), [*learned, now])
    with output_folder(model_folder(task)) as folder:
        tensors = stack(below, trained.state)
        save_adapter(folder, tensors, params.model.target_modules, lineage, model_card(lineage))
        write_curves(task, trained.history)  # when nothing can be wrong with the adapter any more
    write_provenance("train", task, params, rows=len(rows), steps=len(trained.history))
    forget_checkpoints(checkpoints)
    print(
        f"{task}: loss {trained.history[0].loss:.3f} -> {trained.history[-1].loss:.3f}, "
        f"saved in {model_folder(task)}"
    )


def checkpoint_folder(task: str, record: TrainingRecord, params: Params) -> Path:
    """The checkpoints' folder, outside the outputs, under a key of all inputs.

    A training that was killed goes on; one with other settings, code or libraries starts anew.
    """
    settings = params.model_dump(include={"lora", "train", "prompt", "model"})
    made = [record.model_dump(), settings, read_base().content(), process_count()]
    code = [sha256_file(path) for path in sorted(Path(__file__).parent.glob("**/*.py"))]
    return Path(".checkpoints") / f"{task}-{sha256_json([*made, code])[:16]}"


def training_name(task: str, checkpoints: Path, params: Params) -> Training:
    """What trackers call the training: it is the same for the same inputs, as its checkpoints' folder is."""
    method, key = params.method.name, checkpoints.name.rpartition("-")[2]
    about = {"model": params.model.name, "sequence": params.sequence.name, "seed": str(params.seed)}
    return Training(method, task, key, {"task": task, "method": method, **about})


if __name__ == "__main__":
    run(train, TRACKERS)
