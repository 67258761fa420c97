"""prepare: fetch the tasks and write their rows -> data/tasks/TASK/{task.json,train.jsonl,test.jsonl}."""

from collections.abc import Iterator

from sapo.artifacts.task import TASKS, Task, save_task
from sapo.config import Params, load_params
from sapo.runtime.command import run
from sapo.runtime.errors import DataError
from sapo.runtime.outputs import output_folder


def prepare() -> None:
    """Fetch and check the rows of every task of the sequence."""
    params = load_params()
    with output_folder(TASKS) as folder:
        for task in tasks_of(params):
            if not task.train or not task.test:
                raise DataError(f"{task.name}: no rows are left for training or for testing")
            save_task(folder / task.name, task)
            print(f"{task.name}: {len(task.train)} training rows, {len(task.test)} test rows", flush=True)
            if shared := task.train_rows_also_in_test():
                print(
                    f"{task.name}: {shared} training rows have a text that is tested too; "
                    "they are kept as published"
                )


def tasks_of(params: Params) -> Iterator[Task]:
    """The tasks of the sequence, in its order, from its source."""
    data, sequence = params.data, params.sequence
    if sequence.source == "catalog":
        from sapo.data.catalog_tasks import load_catalog_tasks

        return load_catalog_tasks(sequence.order, data.url, (data.train_rows, data.test_rows))
    if sequence.source == "folder":
        from sapo.data.folder import load_folder_tasks

        return load_folder_tasks(sequence.order, sequence.path, (data.train_rows, data.test_rows))
    from sapo.data.embedded import load_embedded_task

    return (
        load_embedded_task(n, data.train_rows, data.test_rows, data.max_words, data.seed)
        for n in sequence.order
    )


if __name__ == "__main__":
    run(prepare)
