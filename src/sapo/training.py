"""Training one task's LoRA on Hugging Face Trainer: loss on answer tokens behind a shared prefix, plus O-LoRA's term."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from sapo.files import DataError
from sapo.prefix import Batch, answer_logits, answer_loss, make_batch, prefix_length, run_prefix
from sapo.prompts import Encoded

if TYPE_CHECKING:
    from sapo.params import Lora, Train


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


class StackTrainer(Trainer):
    """Trainer whose rows are Encoded prompts and answers (columns `prompt`, `answer`)."""

    _loss_shifts_labels = False  # labels stand where they are predicted: every one of them counts

    def __init__(self, *, earlier_a: Mapping[str, Tensor], orthogonal_weight: float, **options: Any) -> None:
        super().__init__(**options)
        self.model_accepts_loss_kwargs = True  # the loss is divided by the token count of a whole accumulated batch
        self.earlier_a = {name: a.to(self.args.device) for name, a in earlier_a.items()} if orthogonal_weight else {}
        self.orthogonal_weight = orthogonal_weight

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        batch = Batch(**inputs)
        logits = answer_logits(model, batch, run_prefix(model, batch.prefix_ids))
        loss = answer_loss(logits, batch.labels) / num_items_in_batch
        if self.earlier_a:  # divided, so that its weight does not change with gradient accumulation
            penalty = orthogonal_penalty(model, self.earlier_a)
            loss = loss + self.orthogonal_weight * penalty / self.current_gradient_accumulation_steps
        if not torch.isfinite(loss):
            raise DataError(
                f"the training loss is {loss.item()} at step {self.state.global_step}: "
                "lower train.learning_rate, or use model.dtype=float32"
            )
        return loss


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
    prefix = prefix_length(rows)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=train.epochs,
        per_device_train_batch_size=train.batch_size,
        gradient_accumulation_steps=train.gradient_accumulation,
        learning_rate=train.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=train.warmup_ratio,
        max_grad_norm=train.max_grad_norm,
        weight_decay=0.0,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=1 / train.checkpoints,
        save_total_limit=1,
        seed=seed,
        data_seed=seed,
        remove_unused_columns=False,
        report_to=[],
        dataloader_pin_memory=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # Trainer would split a batch over all GPUs that it sees
    trainer = StackTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": row.prompt, "answer": row.answer} for row in rows]),
        data_collator=lambda items: vars(make_batch([Encoded(**item) for item in items], prefix, pad)),
        callbacks=list(callbacks),
        earlier_a=earlier_a or {},
        orthogonal_weight=orthogonal_weight,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None)
    kept = ("step", "epoch", "loss", "grad_norm", "learning_rate")
    history = [{key: entry[key] for key in kept} for entry in trainer.state.log_history if "loss" in entry]
    return Trained(get_peft_model_state_dict(model), history)


def forget_checkpoints(folder: Path) -> None:
    """Remove a task's checkpoints once its adapter is saved."""
    shutil.rmtree(folder, ignore_errors=True)
