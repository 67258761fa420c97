"""The model after a stage, from which one task is trained again and again under different wordings.

The stage's LoRAs are added to the weights once; each training has a LoRA of its own, which leaves no trace.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from sapo.analysis.answer_metrics import METRICS, row_scores
from sapo.answers.engine import longest_answer, stop_tokens
from sapo.answers.greedy import answer
from sapo.artifacts.base_model import read_base
from sapo.artifacts.lineage import Step, earlier_rows, model_folder, weights_path
from sapo.artifacts.run_record import PromptText, answers_record, training_record
from sapo.artifacts.study import Role, StudyRecord, TaskRows, read_wordings, wordings_path
from sapo.artifacts.task import Example, Task, load_task
from sapo.config import Params
from sapo.lora.current import current_model
from sapo.lora.stack import check_continues, load_adapter
from sapo.models.context import check_length
from sapo.models.devices import device
from sapo.models.load import load_tokenizer
from sapo.prompts.encoder import Encoded, PromptEncoder
from sapo.runtime.errors import DataError
from sapo.runtime.files import sha256_file
from sapo.settings.study import Pair
from sapo.training.checkpoints import forget_checkpoints
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora
from sapo.training.rows import training_rows


@dataclass(frozen=True)
class Question:
    """A task's first test rows, and the prompt that they are asked under."""

    role: Role
    task: Task
    prompt: PromptText


class State:
    """The model after `pair.after`, and the task `pair.task` to train, cut to the study's rows.

    Raises DataError for settings that the study cannot use, and before any training where a prompt does not
    fit into the model's context.
    """

    def __init__(self, params: Params, pair: Pair) -> None:
        self.params, self.pair = _settings(params), pair
        study, sequence = params.study, params.sequence
        self.whole = load_task(pair.task)
        self.task = replace(
            self.whole, train=self.whole.train[: study.train_rows], test=self.whole.test[: study.test_rows]
        )
        self.texts = read_wordings(self.whole, study.wordings)
        folder = model_folder(pair.after)
        self.previous = load_adapter(
            folder, read_base().fingerprint, [*sequence.before(pair.after), pair.after]
        )
        modules = params.model.target_modules
        check_continues(self.previous, params.method.adapter, params.lora, modules, folder)
        self.lineage = self.previous.lineage
        self.earlier = earlier_rows(params.method, self.lineage.tasks)
        self.encoder = PromptEncoder(
            load_tokenizer(), params.prompt.max_tokens, params.model.template_options
        )
        self.others = self._others()
        self.model: PreTrainedModel = current_model(self.params, self.previous)
        for text in self.texts:
            for question in self.questions(text)[:1]:
                self._check_length(question)
        for question in self.others:
            self._check_length(question)

    def _others(self) -> list[Question]:
        """What is asked whatever the wording: the task under its original, then the other tasks."""
        study, sequence, asked = self.params.study, self.params.sequence, self.lineage.asked()
        found = [Question("original", self.task, self.prompt(self.texts[0]))]
        for name in (name for name in sequence.evaluated if name != self.pair.task):
            role: Role = "earlier" if name in asked else "probe" if name in sequence.probes else "later"
            task = load_task(name)
            rows = study.test_rows if role == "earlier" else study.other_rows
            own = PromptText(instruction=task.instruction, suffix=task.suffix, language=task.language)
            found.append(Question(role, replace(task, test=task.test[:rows]), asked.get(name, own)))
        return found

    def _check_length(self, question: Question) -> None:
        longest = longest_answer(question.task, self.params.evaluate)
        rows = self.encoded(question.task, question.prompt, question.task.test)
        check_length(self.model.config, max(len(row.prompt) + max(len(row.answer), longest) for row in rows))

    @property
    def pad(self) -> int:
        return self.encoder.end_of_turn

    def prompt(self, text: str) -> PromptText:
        """The task's prompt with this wording of its instruction."""
        return PromptText(instruction=text, suffix=self.task.suffix, language=self.task.language)

    def encoded(self, task: Task, prompt: PromptText, examples: Sequence[Example]) -> list[Encoded]:
        """Rows of a task with their answers."""
        return self.encoder.encode(prompt.instruction, prompt.suffix, prompt.language, examples, answers=True)

    def rows(self, text: str) -> list[Encoded]:
        """What a training under this wording reads."""
        learned, seed = self.lineage.tasks, self.params.seed
        return training_rows(self.encoder, self.task, self.prompt(text), learned, self.earlier, seed)

    def questions(self, text: str) -> list[Question]:
        """What is asked after a training under this wording."""
        others = self.others[1:] if text == self.texts[0] else self.others
        return [Question("own", self.task, self.prompt(text)), *others]

    @contextmanager
    def lora(self, seed: int, **changed: Any) -> Iterator[PeftModel]:
        """The model with the LoRA that a training with this seed begins with; `model` has it until it ends.

        changed: fields of the settings `lora` that are others.
        """
        modules, settings = self.params.model.target_modules, self.params.lora.model_copy(update=changed)
        model = new_lora(self.model, settings, modules, self.seed(seed))
        yield model
        inner: Any = model.base_model
        inner.unload()

    def seed(self, seed: int) -> int:
        """Of the LoRA and the row order: as in `train`, another one for each number of tasks learned."""
        return seed + len(self.lineage.tasks)

    def train(
        self, model: PeftModel, rows: Sequence[Encoded], seed: int, folder: Path, **changed: Any
    ) -> list[Step]:
        """Train the LoRA as `train` does, to the weights that it would save.

        folder: of its checkpoints. changed: fields of the settings `train` that are others. Raises DataError
        where a weight is not finite in lora.save_dtype.
        """
        trained = train_task(
            model,
            rows,
            train=self.params.train.model_copy(update=changed),
            seed=self.seed(seed),
            pad=self.pad,
            checkpoints=folder,
            earlier_a=self.previous.a,
            orthogonal_weight=self.params.orthogonal_weight,
        )
        saved = getattr(torch, self.params.lora.save_dtype)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(saved).to(parameter.dtype)
                if not torch.isfinite(parameter).all():
                    raise DataError(f"{name} is not finite as {saved}: training diverged")
        forget_checkpoints(folder)
        return trained.history

    def scores(self, questions: Sequence[Question]) -> list[TaskRows]:
        """The scores of the answers of `model`, with its LoRA if it has one, of the metrics in figures."""
        settings, stop = self.params.evaluate, stop_tokens(self.encoder)
        found = []
        for question in questions:
            task, role = question.task, question.role
            rows = self.encoded(task, question.prompt, task.test)
            title, most = f"{task.name} ({role})", longest_answer(task, settings)
            ids, likelihoods = answer(self.model, rows, stop, self.pad, most, settings.batch_tokens, title)
            texts = self.encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)
            references = [example.references for example in task.test]
            scores = row_scores([text.strip() for text in texts], references, likelihoods, task.name)
            found.append(
                TaskRows.of(task.name, role, {name: scores[name] for name, of in METRICS.items() if of.drawn})
            )
        return found

    def record(self, seed: int) -> StudyRecord:
        """What decides the results of the trainings with this seed."""
        params = self.params.model_copy(update={"seed": seed})
        base, weights = read_base().fingerprint, weights_path(self.pair.after)
        template, place = self.encoder.template_sha256, device().type
        asked = {self.task.name: self.prompt(self.texts[0])}
        asked |= {question.task.name: question.prompt for question in self.others[1:]}
        training = training_record(
            params,
            base,
            weights,
            self.task.name,
            self.prompt(self.texts[0]),
            earlier=self.earlier,
            selector="fixed",
            template=template,
            device=place,
        )
        rows = self.params.study.model_dump(include={"train_rows", "test_rows", "other_rows"})
        return StudyRecord(
            training=training,
            answers=answers_record(params, base, weights, asked, template, place),
            wordings=sha256_file(wordings_path(self.task.name)),
            rows=rows,
        )


def _settings(params: Params) -> Params:
    """The settings of a training of the study: all as in the run, but epochs, one dtype, one process."""
    if (kind := params.method.adapter) != "stacked":
        raise DataError(f"method.adapter is {kind!r}: the study needs a method that trains a new LoRA a task")
    if params.launch.shard:
        raise DataError("the study runs one process a pair and seed: use launch=single")
    train = params.train.model_copy(update={"epochs": params.study.epochs, "dtype": None})
    evaluate = params.evaluate.model_copy(update={"engine": "transformers"})
    return params.model_copy(update={"train": train, "evaluate": evaluate})
