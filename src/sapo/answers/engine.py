"""What answers: the model as it is now, in the engine that the settings name."""

from collections.abc import Callable, Sequence

from sapo.answers.greedy import generate
from sapo.artifacts.lineage import model_folder
from sapo.artifacts.run_record import PromptText
from sapo.artifacts.task import Task
from sapo.config import Params
from sapo.lora.current import current_model
from sapo.lora.stack import Adapter
from sapo.models.devices import shard
from sapo.models.load import load_tokenizer, weights_folder
from sapo.prompts.encoder import Encoded, PromptEncoder

# Rows, stop tokens, limit -> new tokens
Continue = Callable[[Sequence[Encoded], set[int], int], list[list[int]]]


class Engine:
    """The model after a stage, ready to answer a task's test rows greedily."""

    def __init__(self, params: Params, stage: str, adapter: Adapter | None) -> None:
        self.settings, self.stage = params.evaluate, stage
        self.tokenizer = load_tokenizer()
        self.encoder = PromptEncoder(self.tokenizer, params.prompt.max_tokens, params.model.template_options)
        ends = (self.encoder.end_of_turn, self.tokenizer.eos_token_id)
        self.stop = {end for end in ends if end is not None}
        self.continuations: Continue = self._here
        if self.settings.engine == "vllm":
            from sapo.answers.vllm import vllm_engine

            limit = params.prompt.max_tokens + self.settings.max_new_tokens
            folder, rank = (model_folder(stage), adapter.rank) if adapter else (None, 0)
            self.continuations = vllm_engine(weights_folder(), params.model.dtype, folder, rank, limit)
        else:
            self.model = current_model(params, adapter)
            if params.launch.shard:
                shard(self.model)

    def _here(self, rows: Sequence[Encoded], stop: set[int], length: int) -> list[list[int]]:
        return generate(
            self.model, rows, stop, self.encoder.end_of_turn, length, self.settings.batch_tokens, self.stage
        )

    def answer(self, task: Task, prompt: PromptText) -> list[str]:
        """The answers to the task's test rows under the prompt, without outer white space."""
        rows = self.encoder.encode(
            prompt.instruction, prompt.suffix, prompt.language, task.test, answers=False
        )
        length = min(task.max_new_tokens or self.settings.max_new_tokens, self.settings.max_new_tokens)
        found = self.continuations(rows, self.stop, length)
        return [text.strip() for text in self.tokenizer.batch_decode(found, skip_special_tokens=True)]
