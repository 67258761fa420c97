"""study_losses TASK AFTER: what is known of each wording before it is trained -> study/predictors/."""

from sapo.artifacts.study import PairPredictors, PredictorValues
from sapo.config import load_params
from sapo.runtime.command import run
from sapo.runtime.imports import quick_imports
from sapo.runtime.progress import progress


def study_losses(task: str, after: str) -> None:
    """Measure the loss of each wording and its rival predictors under the model after AFTER."""
    params = load_params()
    pair = params.study.pair(params.sequence, task, after)
    with quick_imports():
        from sapo.study.predictors import PREDICTORS, Bench
        from sapo.study.state import State

    state = State(params, pair)
    found = {}
    with progress(f"{task} after {after}", len(PREDICTORS) * len(state.texts), "wording") as bar:
        before = state.scores(state.others)
        bench = Bench(state)
        for name, predictor in PREDICTORS.items():
            values = []
            for text in state.texts:
                bar.part(name)
                values.append(round(predictor.value(bench, text), 6))
                bar.update()
            found[name] = PredictorValues(about=predictor.about(bench), values=values)
    PairPredictors(pair=pair, run=state.record(params.seed), predictors=found, before=before).write()


if __name__ == "__main__":
    run(study_losses)
