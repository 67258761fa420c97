"""paraphrase TASK: collect candidate instructions, the original first -> data/paraphrases/TASK.json."""

from sapo.artifacts.candidates import Asked, Candidates
from sapo.artifacts.task import Task, load_task
from sapo.config import Paraphrase, load_params
from sapo.runtime.command import run
from sapo.runtime.keys import OPENAI


def paraphrase(task: str) -> None:
    """Collect the task's candidate instructions."""
    params = load_params()
    params.sequence.before(task)  # refuses what is no task of the sequence
    about = load_task(task)
    if params.method.paraphrases and about.instruction:
        found, asked = collect(about, params.paraphrase)
        candidates = Candidates(
            task=task, source=params.paraphrase.source, candidates=[about.instruction, *found], api=asked
        )
    else:
        candidates = Candidates(task=task, source="none", candidates=[about.instruction], api=None)
    candidates.write()


def collect(task: Task, settings: Paraphrase) -> tuple[list[str], Asked | None]:
    """The task's paraphrases from the source in the settings, and how a language model was asked for them."""
    if settings.source == "api":
        from sapo.candidates.api import from_api

        return from_api(task, settings)
    if settings.source == "file":
        from sapo.candidates.file import from_file

        return from_file(task, settings.count, settings.path), None
    from sapo.candidates.bank import from_bank

    return from_bank(task, settings.count, settings.path), None


if __name__ == "__main__":
    run(paraphrase, OPENAI)
