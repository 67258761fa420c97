"""prepare: fetch the sequence's tasks and write each one's rows -> data/tasks/TASK/{task.json,train.jsonl,test.jsonl}."""

from pathlib import Path

from sapo.benchmarks.embedded import load_embedded_task
from sapo.files import DataError, output_folder
from sapo.params import load_params
from sapo.stage import run
from sapo.tasks import save_task


def prepare() -> None:
    params = load_params()
    data = params.data
    with output_folder(Path("data/tasks")) as folder:
        for name in params.sequence.order:
            task = load_embedded_task(name, data.train_rows, data.test_rows, data.max_words, data.seed)
            if not task.train or not task.test:
                raise DataError(f"{name}: no rows are left for training or for testing")
            save_task(folder / name, task)
            print(f"{name}: {len(task.train)} training rows, {len(task.test)} test rows", flush=True)


if __name__ == "__main__":
    run(prepare)
