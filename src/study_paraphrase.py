"""study_paraphrase: collect the wordings of the study's tasks, the original first -> study/wordings/."""

from paraphrase import collect
from sapo.artifacts.candidates import Candidates
from sapo.artifacts.study import write_wordings
from sapo.artifacts.task import load_task
from sapo.config import load_params
from sapo.runtime.command import run
from sapo.runtime.errors import DataError
from sapo.runtime.keys import OPENAI


def study_paraphrase() -> None:
    """Collect as many wordings of each task as study.wordings says, from the source of the paraphrases."""
    params = load_params()
    params.study.checked_pairs(params.sequence)
    wanted = params.study.wordings - 1
    settings = params.paraphrase.model_copy(update={"count": wanted})
    for task in map(load_task, params.study.tasks):
        if not task.instruction:
            raise DataError(f"{task.name} has no instruction: there is nothing to word in other ways")
        try:
            found, asked = collect(task, settings)
        except DataError as error:
            need = f"study.wordings = {wanted + 1} needs {wanted} paraphrases of {task.name}"
            raise DataError(f"{need}: {error}") from error
        texts = [task.instruction, *found]
        write_wordings(Candidates(task=task.name, source=settings.source, candidates=texts, api=asked))


if __name__ == "__main__":
    run(study_paraphrase, OPENAI)
