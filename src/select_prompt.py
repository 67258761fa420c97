"""select TASK: measure candidates' losses under the current model, choose one -> data/prompts/TASK.json."""

from sapo.artifacts.base_model import read_base
from sapo.artifacts.candidates import read_candidates
from sapo.artifacts.chosen_prompt import Candidate, ChosenPrompt, unmeasured
from sapo.artifacts.lineage import weights_path
from sapo.artifacts.provenance import write_provenance
from sapo.artifacts.run_record import SelectionRecord, selection_record
from sapo.artifacts.task import Task, load_task
from sapo.config import BASE, Params, load_params
from sapo.runtime.command import run
from sapo.runtime.imports import quick_imports
from sapo.runtime.processes import is_main
from sapo.selection.selectors import FIXED, SELECTORS, fixed_candidate


def select(task: str) -> None:
    """Measure the task's candidate instructions under the model as it is now, and choose one."""
    params = load_params(launched=True)
    before = params.sequence.before(task)
    about = load_task(task)
    texts = read_candidates(about)
    method = params.method
    selector = SELECTORS.get(method.selector)
    search = "exhaustive" if selector and selector.every_loss else params.selection.search
    chosen, record = 0, None
    if method.selector == FIXED:
        chosen, texts = fixed_candidate(task, texts, method.candidate, (method.texts or {}).get(task))
    candidates = unmeasured(texts)
    if selector and len(texts) > 1:
        best, candidates, record = measure_all(params, about, before, texts, search)
        draw = f"{params.seed} {task}"  # each task another number, where one is drawn
        chosen = selector.choose([one.loss or 0.0 for one in candidates], best, draw)
    if is_main():
        ChosenPrompt(
            task=task,
            after=before[-1] if before else BASE,
            selector=method.selector,
            search=search,
            rows=min(params.selection.rows, len(about.train)),
            chosen=chosen,
            instruction=texts[chosen],
            original=about.instruction,
            suffix=about.suffix,
            language=about.language,
            run=record,
            candidates=candidates,
        ).write()
        evaluations = sum(one.rows for one in candidates)
        write_provenance("select", task, params, candidates=len(texts), row_evaluations=evaluations)


def measure_all(
    params: Params, task: Task, before: list[str], texts: list[str], search: str
) -> tuple[int, list[Candidate], SelectionRecord]:
    """The best candidate's number, all candidates with their losses, and what decided these."""
    with quick_imports():
        from sapo.lora.current import current_adapter, current_model
        from sapo.models.devices import device, shard
        from sapo.models.load import load_tokenizer
        from sapo.prompts.encoder import PromptEncoder
        from sapo.selection.measure import measure

    adapter = current_adapter(before)
    model = current_model(params, adapter)
    if params.launch.shard:
        shard(model)
    encoder = PromptEncoder(load_tokenizer(), params.prompt.max_tokens, params.model.template_options)
    best, candidates = measure(model, encoder, task, texts, params.selection, search)
    weights = weights_path(before[-1]) if before else None
    base, template = read_base().fingerprint, encoder.template_sha256
    record = selection_record(params, base, weights, task.name, template, device().type)
    return best, candidates, record


if __name__ == "__main__":
    run(select)
