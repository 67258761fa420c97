"""prepare: fetch the tasks and write their rows -> data/tasks/TASK/{task.json,train.jsonl,test.jsonl}."""

from sapo.artifacts.task import TASKS, save_task
from sapo.config import load_params
from sapo.data.sources import SOURCES
from sapo.runtime.command import run
from sapo.runtime.errors import DataError
from sapo.runtime.outputs import output_folder


def prepare() -> None:
    """Fetch and check the rows of every task of the sequence."""
    params = load_params()
    with output_folder(TASKS) as folder:
        for task in SOURCES[params.sequence.source].load(params.sequence, params.data):
            if not task.train or not task.test:
                raise DataError(f"{task.name}: no rows are left for training or for testing")
            save_task(folder / task.name, task)
            print(f"{task.name}: {len(task.train)} training rows, {len(task.test)} test rows", flush=True)
            if shared := task.train_rows_also_in_test():
                print(
                    f"{task.name}: {shared} training rows have a text that is tested too; "
                    "they are kept as published"
                )


if __name__ == "__main__":
    run(prepare)
