"""The catalogue of SuperNI and TRACE, and the tasks it names, read from real files where some are at hand."""

import json
import os
import re
import threading
from collections.abc import Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from sapo.analysis.answer_metrics import normal
from sapo.artifacts.task import Task
from sapo.config import SAFE_NAME
from sapo.data.catalog import CATALOG, blob, catalog, default_url, task_folders
from sapo.data.catalog_tasks import load_catalog_tasks
from sapo.data.download import fetch
from sapo.data.folder import check_about, read_rows
from sapo.data.sources import SOURCES
from sapo.prompts.encoder import PromptEncoder
from sapo.runtime.errors import DataError
from sapo.runtime.files import git_blob_id

REPOSITORY = Path(__file__).parents[3]
FILES = Path(os.environ.get("SAPO_BENCHMARKS") or REPOSITORY.parent / "shared" / "benchmarks")
HERE = sorted(path for path in catalog().files if (FILES / path).is_file())
WHOLE = [
    name
    for name, folder in task_folders().items()
    if {f"{folder}/train.json", f"{folder}/test.json"} <= {*HERE}
]
ROWS = {"SUPERNI": (1000, 1000), "TRACE": (3000, 3000)}  # as the paper takes them
needs_files = pytest.mark.skipif(not HERE, reason=f"no catalogued file in {FILES}")


def test_the_catalogue_holds_a_repository_a_commit_and_files() -> None:
    assert set(json.loads(CATALOG.read_bytes())) == {"repository", "commit", "unusable", "files"}
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+", catalog().repository)
    assert re.fullmatch(r"[0-9a-f]{40}", catalog().commit)


def test_every_file_has_a_git_id_and_a_size_that_is_positive_or_unknown() -> None:
    for path in catalog().files:
        file = blob(path)
        assert file.path == path
        assert re.fullmatch(r"[0-9a-f]{40}", file.id), path
        assert file.size is None or (type(file.size) is int and file.size > 0), path


def test_every_path_stays_below_its_base_and_says_family_task_and_split() -> None:
    for path in catalog().files:
        assert not PurePosixPath(path).is_absolute()
        assert ".." not in PurePosixPath(path).parts
        assert str(PurePosixPath(path)) == path
        assert re.fullmatch(r"(SUPERNI|TRACE)/(instructions|[A-Za-z0-9_-]+/(train|dev|test))\.json", path), (
            path
        )


def test_every_task_has_its_splits_and_its_family_has_instructions() -> None:
    files = catalog().files
    for folder in task_folders().values():
        assert {f"{folder}/{split}.json" for split in ("train", "dev", "test")} <= set(files)
        assert f"{folder.split('/')[0]}/instructions.json" in files


def test_every_folder_has_one_name_and_every_name_is_safe() -> None:
    folders = {str(PurePosixPath(path).parent) for path in catalog().files} - {"SUPERNI", "TRACE"}
    assert sorted(task_folders().values()) == sorted(folders)
    assert all(SAFE_NAME.fullmatch(name) and name != "base" for name in task_folders())


def test_a_name_is_the_folder_up_to_its_first_underscore_unless_two_would_be_the_same() -> None:
    folders = task_folders()
    assert folders["task195"] == "SUPERNI/task195_sentiment140_classification"
    assert folders["C-STANCE"] == "TRACE/C-STANCE"
    assert {name for name in folders if "_" in name} == {
        "task1510_evalution_relation_extraction",
        "task1510_evalution_relation_extraction_ori",
    }
    for name, folder in folders.items():
        assert folder.split("/")[1] == name or folder.split("/")[1].startswith(f"{name}_")


def test_fault_04_a_name_that_begins_like_another_is_not_taken_for_it() -> None:
    assert "task19" not in task_folders()
    assert "task1510" not in task_folders()
    assert task_folders()["task141"] != task_folders().get("task1410")


def test_the_known_tasks_of_the_catalogue_are_its_names() -> None:
    unusable = {"task1510_evalution_relation_extraction_ori"}
    assert SOURCES["catalog"].known() == set(task_folders()) - unusable
    assert SOURCES["catalog"].unusable().keys() == unusable
    assert SOURCES["folder"].known() == set()


def test_files_are_published_at_the_catalogued_commit() -> None:
    assert default_url().startswith("https://raw.githubusercontent.com/")
    assert default_url().endswith(
        f"/{catalog().repository.removeprefix('https://github.com/')}/{catalog().commit}"
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """FILES, served on the loopback interface; a cache for all tests of this module."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        Server(("127.0.0.1", 0), partial(Quiet, directory=str(FILES))) as server,
    ):
        monkeypatch.setenv("SAPO_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@cache
def published(path: str) -> Any:
    """What the file holds, read without the product."""
    return json.loads((FILES / path).read_bytes())


def sentences(path: str) -> list[str]:
    return [row["sentence"] for row in published(path)]


@needs_files
def test_every_file_at_hand_is_the_one_that_the_catalogue_knows(url: str) -> None:
    files = fetch(url, [blob(path) for path in HERE])
    assert set(files) == set(HERE)
    for path, file in files.items():
        assert git_blob_id(file) == blob(path).id
        assert file.read_bytes() == (FILES / path).read_bytes()
        assert blob(path).size == file.stat().st_size


@needs_files
def test_the_catalogue_says_what_the_shared_one_says() -> None:
    if not (FILES / "catalog.json").is_file():
        pytest.skip(f"no catalog.json in {FILES}")
    shared = published("catalog.json")
    assert (catalog().repository, catalog().commit) == (shared["repository"], shared["commit"])
    expected = {path: (file["git_blob"], file["size"]) for path, file in shared["files"].items()}
    assert {path: expected[path] for path in catalog().files} == catalog().files


def load(url: str, name: str, rows: tuple[int, int] | None = None) -> Task:
    [task] = load_catalog_tasks([name], url, rows or ROWS[task_folders()[name].split("/")[0]])
    return task


@needs_files
def test_the_tasks_that_can_be_named_are_those_with_published_instructions() -> None:
    with_instructions = {
        name
        for name, folder in task_folders().items()
        if folder.split("/")[1] in published(f"{folder.split('/')[0]}/instructions.json")
    }
    assert with_instructions == SOURCES["catalog"].known()


@needs_files
@pytest.mark.parametrize("path", [path for path in HERE if not path.endswith("instructions.json")])
def test_every_row_at_hand_can_be_used_as_it_is(path: str) -> None:
    family, key, _ = path.split("/")
    about = check_about(published(f"{family}/instructions.json"), key, path)
    assert [example.row() for example in read_rows(FILES / path, path, about["labels"])] == published(path)


@needs_files
@pytest.mark.parametrize("name", WHOLE)
def test_labels_of_a_catalogued_task_can_be_told_apart(url: str, name: str) -> None:
    labels = load(url, name, (1, 1)).labels
    assert len({normal(label) for label in labels}) == len(labels)


@needs_files
@pytest.mark.parametrize("name", WHOLE)
def test_prompts_and_answers_have_the_tokens_of_the_public_layout(
    url: str, name: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    family, key = task_folders()[name].split("/")
    about = published(f"{family}/instructions.json")[key]
    heading = "文本" if "态度" in about["instruction"] else "Text"
    layout = f"{about['instruction']}\n\n{heading}:\n%\n\n{about['suffix']}"
    task = load(url, name, (16, 1))
    encoder = PromptEncoder(tokenizer, 1 << 20, {})
    found = encoder.encode(task.instruction, task.suffix, task.language, task.train, answers=True)
    for row, of in zip(published(f"{family}/{key}/train.json"), found, strict=False):
        turn = [{"role": "user", "content": layout.replace("%", row["sentence"])}]
        stock = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        assert of.prompt == tokenizer(stock, add_special_tokens=False)["input_ids"]
        assert of.answer[:-1] == tokenizer(row["label"], add_special_tokens=False)["input_ids"]


@needs_files
@pytest.mark.parametrize("name", WHOLE)
def test_a_task_is_what_its_files_hold(url: str, name: str) -> None:
    family, key = task_folders()[name].split("/")
    about = published(f"{family}/instructions.json")[key]
    task = load(url, name)
    assert task.name == name
    assert (task.instruction, task.suffix) == (about["instruction"], about["suffix"])
    assert task.labels == about["labels"]
    assert task.language == ("zh" if name == "C-STANCE" else "en")
    assert task.max_new_tokens is None
    for split, rows, most in zip(("train", "test"), (task.train, task.test), ROWS[family], strict=True):
        path = f"{family}/{key}/{split}.json"
        assert len(published(path)) == about["size"][("train", "dev", "test").index(split)]
        assert [(row.sentence, row.label) for row in rows] == [
            (row["sentence"], row["label"]) for row in published(path)[:most]
        ]
        assert all(row.label in task.labels for row in rows if task.labels)


@needs_files
@pytest.mark.parametrize("name", WHOLE)
def test_a_task_records_its_commit_its_files_and_the_training_texts_that_are_tested(
    url: str, name: str
) -> None:
    folder = task_folders()[name]
    used = [f"{folder}/train.json", f"{folder}/test.json", f"{folder.split('/')[0]}/instructions.json"]
    most = ROWS[folder.split("/")[0]]
    tested = set(sentences(used[1])[: most[1]])
    assert load(url, name).source == {
        "repository": catalog().repository,
        "commit": catalog().commit,
        "git_blobs": {path: catalog().files[path][0] for path in used},
        "train_rows_also_in_test": sum(text in tested for text in sentences(used[0])[: most[0]]),
    }


@needs_files
@pytest.mark.skipif("FOMC" not in WHOLE, reason="FOMC's files are not at hand")
def test_training_texts_that_are_tested_are_counted_among_the_rows_taken(url: str) -> None:
    assert load(url, "FOMC", (10**6, 10**6)).source["train_rows_also_in_test"] == 82
    assert 0 < load(url, "FOMC").source["train_rows_also_in_test"] < 82
    first = sentences("TRACE/FOMC/test.json")[0]
    alone = load(url, "FOMC", (10**6, 1))
    assert alone.source["train_rows_also_in_test"] == sentences("TRACE/FOMC/train.json").count(first)


@needs_files
def test_tasks_come_in_the_order_asked_for(url: str) -> None:
    names = WHOLE[::-1]
    assert [task.name for task in load_catalog_tasks(names, url, (1, 1))] == names


@needs_files
@pytest.mark.parametrize("name", WHOLE)
def test_fault_20_one_row_of_each_split_is_enough(url: str, name: str) -> None:
    task = load(url, name, (1, 1))
    assert (len(task.train), len(task.test)) == (1, 1)
    assert task.train == load(url, name).train[:1]


@needs_files
def test_a_catalogued_file_that_is_not_published_there_is_named(url: str) -> None:
    missing = [name for name, folder in task_folders().items() if f"{folder}/train.json" not in HERE]
    if not missing:
        pytest.skip("every catalogued file is at hand")
    with pytest.raises(DataError, match=f"{task_folders()[missing[0]]}/.*it is not there"):
        load(url, missing[0])
