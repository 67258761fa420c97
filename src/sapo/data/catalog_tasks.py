"""The catalogued tasks, from the files that they were published as."""

from collections.abc import Iterator, Sequence

from sapo.artifacts.task import Task
from sapo.data.catalog import blob, catalog, default_url, task_folders
from sapo.data.download import fetch
from sapo.data.folder import check_about, make_task, read_rows
from sapo.runtime.files import read_json


def load_catalog_tasks(names: Sequence[str], url: str | None, rows: tuple[int, int]) -> Iterator[Task]:
    """The named tasks, with at most their first `rows` training and test rows, fetched from `url`.

    Without a url they come from where they are published. Raises DataError for a file that cannot be fetched
    or is another one, and for a row that cannot be used.
    """
    folders = [task_folders()[name] for name in names]
    about_files = {folder: f"{folder.split('/')[0]}/instructions.json" for folder in folders}
    paths = [f"{folder}/{split}.json" for folder in folders for split in ("train", "test")]
    files = fetch(url or default_url(), [blob(path) for path in sorted({*about_files.values(), *paths})])
    for name, folder in zip(names, folders, strict=True):
        about = check_about(read_json(files[about_files[folder]]), folder.split("/")[1], about_files[folder])
        used = {split: f"{folder}/{split}.json" for split in ("train", "test")}
        train, test = (read_rows(files[path], path, about["labels"]) for path in used.values())
        source = {
            "repository": catalog().repository,
            "commit": catalog().commit,
            "git_blobs": {path: blob(path).id for path in [*used.values(), about_files[folder]]},
        }
        yield make_task(name, about, train, test, source, rows)
