"""study_train TASK AFTER SEED: train the task under every wording, and measure it -> study/rows/.

Each wording's result is kept as it is finished: a study that is killed goes on with the next one.
"""

import shutil
from pathlib import Path

from sapo.artifacts.study import PairTrainings, StudyRecord, Trained
from sapo.config import load_params
from sapo.runtime.command import run
from sapo.runtime.errors import DataError
from sapo.runtime.files import sha256_file, sha256_json
from sapo.runtime.imports import quick_imports
from sapo.runtime.outputs import write_json
from sapo.runtime.progress import progress


def study_train(task: str, after: str, seed: str) -> None:
    """From the model after AFTER, train TASK with each wording; measure it and all other tasks."""
    params = load_params()
    pair = params.study.pair(params.sequence, task, after)
    if seed not in map(str, params.study.seeds):
        raise DataError(f"study.seeds has no {seed}")
    number = int(seed)
    with quick_imports():
        from sapo.study.state import State

    state = State(params, pair)
    record = state.record(number)
    kept = results_folder(f"{pair.name}-{seed}", record)
    results: list[Trained] = []
    paths = [kept / f"{wording}.json" for wording in range(len(state.texts))]
    done = sum(path.exists() for path in paths)
    with progress(f"{task} after {after}, seed {seed}", len(paths), "wording", done) as bar:
        for wording, (text, path) in enumerate(zip(state.texts, paths, strict=True)):
            if path.exists():
                results.append(Trained.read(path))
                continue
            with state.lora(number) as model:
                history = state.train(model, state.rows(text), number, kept / f"training-{wording}")
                scores = state.scores(state.questions(text))
            results.append(Trained(wording=wording, loss=history[-1].loss, tasks=scores))
            write_json(path, results[-1].content())
            bar.update()
    PairTrainings(pair=pair, seed=number, run=record, wordings=results).write()
    shutil.rmtree(kept)


def results_folder(name: str, record: StudyRecord) -> Path:
    """Where finished wordings are kept, outside the outputs, under a key of all that decides them."""
    code = [sha256_file(path) for path in sorted(Path(__file__).parent.glob("**/*.py"))]
    return Path(".checkpoints") / f"study-{name}-{sha256_json([record.model_dump(), code])[:16]}"


if __name__ == "__main__":
    run(study_train)
