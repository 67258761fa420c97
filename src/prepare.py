"""prepare: fetch the sequence's tasks and write each one's rows -> data/tasks/TASK/{task.json,train.jsonl,test.jsonl}."""

from collections.abc import Iterator
from pathlib import Path

from sapo.files import DataError, output_folder
from sapo.params import Params, load_params
from sapo.stage import run
from sapo.tasks import Task, save_task


def prepare() -> None:
    params = load_params()
    with output_folder(Path("data/tasks")) as folder:
        for task in tasks_of(params):
            if not task.train or not task.test:
                raise DataError(f"{task.name}: no rows are left for training or for testing")
            save_task(folder / task.name, task)
            print(f"{task.name}: {len(task.train)} training rows, {len(task.test)} test rows", flush=True)
            if shared := task.source.get("train_rows_also_in_test"):
                print(f"{task.name}: {shared} training rows have a text that is tested too; they are kept as published")


def tasks_of(params: Params) -> Iterator[Task]:
    """The tasks of the sequence, in its order, from its source."""
    data, sequence = params.data, params.sequence
    if sequence.source == "catalog":
        from sapo.benchmarks.published import load_catalog_tasks

        return load_catalog_tasks(sequence.order, data.url, (data.train_rows, data.test_rows))
    if sequence.source == "folder":
        from sapo.benchmarks.layout import load_folder_tasks

        return load_folder_tasks(sequence.order, sequence.path, (data.train_rows, data.test_rows))
    from sapo.benchmarks.embedded import load_embedded_task

    return (load_embedded_task(n, data.train_rows, data.test_rows, data.max_words, data.seed) for n in sequence.order)


if __name__ == "__main__":
    run(prepare)
