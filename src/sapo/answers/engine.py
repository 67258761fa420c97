"""What answers: the model as it is now, in the engine that the settings name."""

from collections.abc import Callable, Iterator, Sequence

from transformers import AutoConfig

from sapo.answers.greedy import Answers, answer
from sapo.artifacts.lineage import model_folder
from sapo.artifacts.run_record import PromptText
from sapo.artifacts.task import Task
from sapo.config import Evaluate, Params
from sapo.lora.current import current_model
from sapo.lora.stack import Adapter
from sapo.models.context import check_length
from sapo.models.devices import shard
from sapo.models.load import load_tokenizer, weights_folder
from sapo.prompts.encoder import Encoded, PromptEncoder

# Rows with their right answers, stop tokens, limit -> new tokens, log-likelihoods of the right answers
Answering = Callable[[Sequence[Encoded], set[int], int], tuple[Answers, list[float]]]


def stop_tokens(encoder: PromptEncoder) -> set[int]:
    """The tokens that end an answer."""
    ends = (encoder.end_of_turn, encoder.tokenizer.eos_token_id)
    return {end for end in ends if isinstance(end, int)}


def longest_answer(task: Task, settings: Evaluate) -> int:
    """How many tokens an answer to the task may have."""
    return min(task.max_new_tokens or settings.max_new_tokens, settings.max_new_tokens)


class Engine:
    """The model after a stage, ready to answer tasks' test rows greedily, each task under its prompt.

    Raises DataError, before any work, where the model cannot read a prompt with its answer.
    """

    def __init__(
        self,
        params: Params,
        stage: str,
        adapter: Adapter | None,
        questions: Sequence[tuple[Task, PromptText]],
    ) -> None:
        self.settings, self.asked = params.evaluate, ""
        self.names = [task.name for task, _ in questions]
        self.tokenizer = load_tokenizer()
        self.encoder = PromptEncoder(self.tokenizer, params.prompt.max_tokens, params.model.template_options)
        self.stop = stop_tokens(self.encoder)
        self.limits = [longest_answer(task, self.settings) for task, _ in questions]
        self.rows = [
            self.encoder.encode(asked.instruction, asked.suffix, asked.language, task.test, answers=True)
            for task, asked in questions
        ]
        limit = max(
            len(row.prompt) + max(len(row.answer), most)
            for rows, most in zip(self.rows, self.limits, strict=True)
            for row in rows
        )
        config = AutoConfig.from_pretrained(weights_folder(), trust_remote_code=False, local_files_only=True)
        check_length(config, limit)
        self.answering: Answering = self._here
        if self.settings.engine == "vllm":
            from sapo.answers.vllm import vllm_engine

            folder, rank = (model_folder(stage), adapter.rank) if adapter else (None, 0)
            self.answering = vllm_engine(weights_folder(), params.model.dtype, folder, rank, limit)
        else:
            self.model = current_model(params, adapter)
            if params.launch.shard:
                shard(self.model)

    def _here(self, rows: Sequence[Encoded], stop: set[int], length: int) -> tuple[Answers, list[float]]:
        return answer(
            self.model, rows, stop, self.encoder.end_of_turn, length, self.settings.batch_tokens, self.asked
        )

    def answers(self) -> Iterator[tuple[list[str], list[float]]]:
        """Of each question in turn, one of each test row: the answers, without outer white space, and the
        log-likelihoods (nats a token) of the right ones.
        """
        for name, rows, most in zip(self.names, self.rows, self.limits, strict=True):
            self.asked = name
            found, likelihoods = self.answering(rows, self.stop, most)
            texts = self.tokenizer.batch_decode(found, skip_special_tokens=True)
            yield [text.strip() for text in texts], likelihoods
