"""paraphrase TASK: collect the task's candidate instructions, the original first -> data/paraphrases/TASK.json."""

from typing import Any

from sapo.environment import OPENAI
from sapo.files import write_json
from sapo.params import Paraphrase, check_task, load_params
from sapo.stage import run
from sapo.tasks import Task, load_task


def paraphrase(name: str) -> None:
    params = load_params()
    check_task(params, name)
    task = load_task(f"data/tasks/{name}")
    source, candidates = "none", [task.instruction]
    about: dict[str, Any] = {}
    if params.method.paraphrases and task.instruction:
        source = params.paraphrase.source
        found, about = collect(task, params.paraphrase)
        candidates += found
    write_json(f"data/paraphrases/{name}.json", {"task": name, "source": source, "candidates": candidates} | about)


def collect(task: Task, settings: Paraphrase) -> tuple[list[str], dict[str, Any]]:
    """The task's paraphrases from the source that the settings name, and what that source has to say about them."""
    if settings.source == "api":
        from sapo.paraphrases.api import from_api

        return from_api(task, settings)
    if settings.source == "file":
        from sapo.paraphrases.own import from_file

        return from_file(task, settings.count, settings.path), {}
    from sapo.paraphrases.bank import from_bank

    return from_bank(task, settings.count, settings.path), {}


if __name__ == "__main__":
    run(paraphrase, OPENAI)
