"""Training one task's LoRA on Hugging Face Trainer: loss on answer tokens behind a shared prefix, plus O-LoRA's term."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from sapo.files import DataError, told_where, write_text
from sapo.parallel import is_main, is_sharded, rank, sum_over_ranks, wait_for_all, world
from sapo.pieces import my_pieces
from sapo.prefix import answer_logits, answer_losses, backward_through, detached, make_batch, prefix_length, run_prefix
from sapo.prompts import Encoded

if TYPE_CHECKING:
    from sapo.params import Lora, Train

WHOLE = "whole"  # the file that a checkpoint gets last: without it, its process was killed while writing
PAYS = 64  # tokens saved a step from which a pass of its own for the prefix pays
logger = logging.getLogger(__name__)


def new_lora(model: PreTrainedModel, lora: "Lora", target_modules: list[str], seed: int) -> PeftModel:
    """The model, frozen, with one fresh LoRA on `target_modules`. Raises DataError when no module has such a name."""
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_modules,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise DataError(f"model.target_modules = {target_modules}: {error}") from error
    assert isinstance(adapted, PeftModel)
    return adapted


def orthogonal_penalty(model: PeftModel, earlier_a: Mapping[str, Tensor]) -> Tensor:
    """The sum over modules of |A_earlier @ A_new^T| (O-LoRA, Wang et al. 2023, arXiv 2310.14152, with the absolute value).

    earlier_a: module name -> (earlier ranks, in), rows of all earlier tasks.
    """
    base: Any = model.get_base_model()
    terms = [(a @ base.get_submodule(name).lora_A["default"].weight.float().T).abs().sum() for name, a in earlier_a.items()]
    return torch.stack(terms).sum()


def step_rows(rows: int, epochs: int, batch_size: int, seed: int) -> list[list[int]]:
    """The row numbers of each optimiser step: every epoch visits every row once, in an order of its own."""
    steps = []
    for epoch in range(epochs):
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        steps += [order[start : start + batch_size] for start in range(0, rows, batch_size)]
    return steps


def shared_prefix(rows: Sequence[Encoded], train: "Train", sharded: bool) -> tuple[int, str]:
    """How many leading tokens run once a step for all of its rows, and the reason, for the log.

    Shared where it saves tokens and can work. Gradients are the plain ones to rounding; with dropout, one draw on the
    prefix serves all rows of a step.
    """
    prefix, least = prefix_length(rows), min(train.batch_size, len(rows))
    if train.gradient_checkpointing:
        return 0, "nothing is shared between rows: gradient checkpointing keeps no keys and values"
    if sharded:
        return 0, "nothing is shared between rows: each pass of a sharded model gathers all weights"
    if prefix * (least - 1) < PAYS:
        return 0, f"nothing is shared between rows: {prefix} common tokens in steps of {least} rows do not pay"
    return prefix, f"the first {prefix} tokens of all rows run once a step, with gradients"


class StackTrainer(Trainer):
    """Trainer whose batch is all rows of an optimiser step; it runs them in pieces, each process its share.

    Gradients are summed by this class, so the model needs no wrapper and any number of processes takes the same steps.
    """

    def __init__(
        self,
        *,
        steps: list[list[int]],
        prefix: int,
        pad: int,
        batch_tokens: int,
        earlier_a: Mapping[str, Tensor],
        orthogonal_weight: float,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.lora_model: Any = options["model"]
        self.steps, self.prefix, self.pad, self.batch_tokens = steps, prefix, pad, batch_tokens
        self.earlier_a = {name: a.to(self.args.device) for name, a in earlier_a.items()} if orthogonal_weight else {}
        self.orthogonal_weight = orthogonal_weight
        self.lockstep = is_sharded(self.lora_model)

    def get_train_dataloader(self) -> DataLoader:
        rows: Any = self.train_dataset
        return DataLoader(rows, batch_sampler=self.steps, collate_fn=self.data_collator)

    def _wrap_model(self, model: Any, *_: Any, **__: Any) -> Any:
        return model.base_model  # another object than self.model: Trainer then leaves it to us to bring gradients together

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Trainer's checkpoint, marked when every process has written its part; only then the one before goes."""
        folder = Path(str(self.args.output_dir))
        with told_where(folder):
            super()._save_checkpoint(model, trial)
            wait_for_all()
            if is_main():
                write_text(folder / f"checkpoint-{self.state.global_step}" / WHOLE, "")
                last_checkpoint(folder)

    def floating_point_ops(self, inputs: Any) -> int:
        return 0

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Gradients of the step's mean loss (nats a token over all its rows) and of the orthogonal term; returns their sum."""
        rows: list[Encoded] = inputs["rows"]
        tokens = sum(len(row.answer) for row in rows)
        self.lora_model.train()
        loss = torch.zeros((), device=self.args.device)
        shared = run_prefix(self.lora_model, rows[0].prompt[: self.prefix])
        leaves = detached(shared) if shared else None
        for piece, counts in my_pieces(rows, range(len(rows)), self.prefix, 0, self.batch_tokens, self.lockstep):
            batch = make_batch([rows[index] for index in piece], self.prefix, self.pad, self.args.device)
            part = answer_losses(answer_logits(self.lora_model, batch, leaves), batch.labels).sum() / tokens * counts
            part.backward()
            loss += part.detach()
        if shared and leaves:
            backward_through(shared, leaves)
        if self.earlier_a and is_main():  # once a step, whatever the number of pieces and processes
            penalty = self.orthogonal_weight * orthogonal_penalty(self.lora_model, self.earlier_a)
            penalty.backward()
            loss += penalty.detach()
        if world() > 1:
            self._sum_gradients()
            sum_over_ranks(loss)
        if not torch.isfinite(loss):
            raise DataError(
                f"the training loss is {loss.item()} at step {self.state.global_step}: "
                "lower train.learning_rate, or use model.dtype=float32"
            )
        return loss

    def _sum_gradients(self) -> None:
        trained = [parameter for parameter in self.lora_model.parameters() if parameter.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        flat = sum_over_ranks(torch.cat([gradient.flatten() for gradient in gradients]))
        for parameter, part in zip(trained, flat.split([p.numel() for p in trained]), strict=True):
            parameter.grad = part.view_as(parameter)


@dataclass(frozen=True)
class Trained:
    """PEFT's state dict of the new LoRA, and a row for each optimiser step: step, epoch, loss, grad_norm, learning_rate."""

    state: dict[str, Tensor]
    history: list[dict[str, float]]


def train_task(
    model: PeftModel,
    rows: list[Encoded],
    *,
    train: "Train",
    seed: int,
    pad: int,
    checkpoints: Path,
    earlier_a: Mapping[str, Tensor] | None = None,
    orthogonal_weight: float = 0.0,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Train the new LoRA in place, from the last checkpoint in `checkpoints` where there is one.

    The caller removes `checkpoints` when it has saved the result. Raises DataError for no rows or a loss that is not finite.
    """
    if not rows:
        raise DataError("a task needs at least one training row")
    prefix, reason = shared_prefix(rows, train, is_sharded(model))
    logger.info("training: %s", reason)
    steps = step_rows(len(rows), train.epochs, train.batch_size, seed)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=1,  # `steps` holds all of them
        learning_rate=train.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=train.warmup_ratio if len(steps) > 1 else 0,  # its first step has rate 0: an only one would learn nothing
        max_grad_norm=train.max_grad_norm,
        weight_decay=0.0,
        activation_checkpointing=train.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=1 / train.checkpoints,
        seed=seed,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=not is_main(),
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # Trainer would split a batch over all GPUs that it sees
    trainer = StackTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": row.prompt, "answer": row.answer} for row in rows]),
        data_collator=lambda items: {"rows": [Encoded(**item) for item in items]},
        callbacks=list(callbacks),
        steps=steps,
        prefix=prefix,
        pad=pad,
        batch_tokens=train.batch_tokens,
        earlier_a=earlier_a or {},
        orthogonal_weight=orthogonal_weight,
    )
    if world() > 1:
        torch.manual_seed(seed + rank())  # Trainer has given all processes one seed: their rows would share dropout's draws
    whole = last_checkpoint(checkpoints)
    if whole:
        logger.info("training: goes on from %s of %d steps", whole.name, len(steps))
    trainer.train(resume_from_checkpoint=str(whole) if whole else None)
    kept = ("step", "loss", "grad_norm", "learning_rate")
    history = [
        {key: entry[key] for key in kept} | {"epoch": entry["step"] * train.epochs / len(steps)}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    return Trained(get_peft_model_state_dict(model), history)


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that is whole, if any. The main process removes what else is there."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in found if (path / WHOLE).is_file()]
    last = whole[-1] if whole else None
    if is_main():
        for path in found:
            if path != last:
                _remove(path)
    return last


def _remove(checkpoint: Path) -> None:
    (checkpoint / WHOLE).unlink(missing_ok=True)  # first: what a kill leaves of it is then not whole
    shutil.rmtree(checkpoint, ignore_errors=True)


def forget_checkpoints(folder: Path) -> None:
    """Remove a task's checkpoints once its adapter is saved."""
    for checkpoint in folder.glob("checkpoint-*"):
        _remove(checkpoint)
    shutil.rmtree(folder, ignore_errors=True)
