"""paraphrase TASK: collect the task's candidate instructions, the original first -> data/paraphrases/TASK.json."""

from sapo.files import write_json
from sapo.params import check_task, load_params
from sapo.paraphrases.bank import from_bank
from sapo.stage import run
from sapo.tasks import load_task

SOURCES = {"bank": from_bank}  # the place for another source, such as a language model behind an API


def paraphrase(name: str) -> None:
    params = load_params()
    check_task(params, name)
    task = load_task(f"data/tasks/{name}")
    source, candidates = "none", [task.instruction]
    if params.method.paraphrases and task.instruction:
        source = params.paraphrase.source
        candidates += SOURCES[source](task, params.paraphrase.count)
    write_json(f"data/paraphrases/{name}.json", {"task": name, "source": source, "candidates": candidates})


if __name__ == "__main__":
    run(paraphrase)
