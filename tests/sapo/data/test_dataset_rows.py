"""Data sets of a hub: at their commit, streamed, without code; and what a hub or its card can get wrong."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from hub import GATED, REVISION, TOKEN, serving
from laboratory import REPOSITORY
from sapo.data.dataset_rows import check_file
from sapo.runtime.errors import DataError

LABELS = ["World", "Sports", "Business", "Sci/Tech"]
LOAD = """
import json, sys
from pathlib import Path
from sapo.artifacts.task import save_task
from sapo.data.dataset_tasks import load_dataset_tasks
from sapo.runtime.errors import DataError
for path in sorted(Path("tasks").glob("*.yaml")):
    try:
        [task] = load_dataset_tasks([path.stem], path.parent, (8, 4), 1)
        save_task(Path("out", path.stem), task)
        found = {"source": task.source, "train": [row.row() for row in task.train], "tested": len(task.test)}
    except DataError as error:
        found = {"error": str(error)}
    print("FOUND", json.dumps({path.stem: found}))
"""


def put_data_set(folder: Path, name: str, card: dict[str, Any], **splits: int) -> Path:
    """A data set of the hub with one parquet file a split, and its card."""
    home = folder / name
    (home / "data").mkdir(parents=True)
    for split, rows in splits.items():
        texts = {"text": [f"{split} text {n}" for n in range(rows)], "label": [n % 4 for n in range(rows)]}
        parquet.write_table(pa.table(texts), home / f"data/{split}-00000-of-00001.parquet")
    (home / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\nA card.\n")
    return home


def put_task(folder: Path, name: str, data_set: str, **changes: Any) -> None:
    about = {"dataset": data_set, "revision": REVISION, "sentence": "{text}", "label": "label"}
    about |= {"labels": LABELS, "instruction": "Choose the topic."}
    (folder / "tasks").mkdir(exist_ok=True)
    (folder / f"tasks/{name}.yaml").write_text(yaml.safe_dump(about | changes))


def card(*splits: str, **rows: int) -> dict[str, Any]:
    """What names a data set's files, and says how many rows they have."""
    files = [{"split": split, "path": f"data/{split}-*"} for split in splits or ("train", "test")]
    counted = [{"name": split, "num_examples": n, "num_bytes": n} for split, n in rows.items()]
    features = [{"name": "text", "dtype": "string"}, {"name": "label", "dtype": "int64"}]
    about: dict[str, Any] = {"configs": [{"config_name": "default", "data_files": files}]}
    return about | ({"dataset_info": {"features": features, "splits": counted}} if counted else {})


def load(folder: Path, **variables: str) -> tuple[dict[str, Any], list[str]]:
    """What a process makes of each task of folder/tasks, and what it asked the hub of the folder for."""
    with serving(folder) as (about, asked):
        environment = os.environ | about | {"PYTHONPATH": str(REPOSITORY / "src")} | variables
        done = subprocess.run(
            [sys.executable, "-c", LOAD], cwd=folder, env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.removeprefix("FOUND ") for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    return {name: found for line in lines for name, found in json.loads(line).items()}, asked


def test_a_data_set_is_read_at_its_commit_and_what_is_wrong_with_one_is_told(tmp_path: Path) -> None:
    put_data_set(tmp_path, "someone/news", card(train=400, test=40), train=400, test=40)
    put_data_set(tmp_path, "someone/one-split", card("train"), train=50)
    put_data_set(tmp_path, "someone/cut-off", card(train=401, test=40), train=400, test=40)
    put_data_set(tmp_path, GATED, card(), train=40, test=8)
    scripted = put_data_set(tmp_path, "someone/scripted", card(), train=40, test=8)
    (scripted / "scripted.py").write_text("open('executed', 'w')")
    pickled = put_data_set(tmp_path, "someone/pickled", {})
    (pickled / "data/train.pkl").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    (tmp_path / "private.csv").write_text("text,label\na,1\n")
    branch = "hf://datasets/someone/branch@main/data/train-00000-of-00001.parquet"
    for name, address in (("local", str(tmp_path / "private.csv")), ("branch", branch)):
        named = {"config_name": "default", "data_files": [{"split": "train", "path": address}]}
        put_data_set(tmp_path, f"someone/{name}", {"configs": [named]}, train=40)

    put_task(tmp_path, "news", "someone/news")
    put_task(tmp_path, "drawn", "someone/one-split", splits={"train": "train"})
    put_task(tmp_path, "no_test", "someone/one-split")
    put_task(tmp_path, "cut_off", "someone/cut-off")
    put_task(tmp_path, "gated", GATED)
    put_task(tmp_path, "absent", "someone/absent")
    put_task(tmp_path, "gone", "someone/news", revision="0" * 40)
    put_task(tmp_path, "other_configuration", "someone/news", configuration="fr")
    put_task(tmp_path, "other_column", "someone/news", label="topic")
    for name in ("scripted", "pickled", "local", "branch"):
        put_task(tmp_path, name, f"someone/{name}", splits={"train": "train"})
    (tmp_path / "someone/news.py").write_text("open('executed', 'w')")  # in the folder that it runs in
    found, asked = load(tmp_path, HF_TOKEN="hf_another-token")  # pragma: allowlist secret

    source = found["news"]["source"]
    assert (source["dataset"], source["revision"]) == ("someone/news", REVISION)
    assert source["files"]["train"] == ["data/train-00000-of-00001.parquet"]
    assert {split: one["rows"] for split, one in source["read"].items()} == {"train": 400, "test": 40}
    for row in found["news"]["train"]:
        assert row["label"] == LABELS[int(row["sentence"].split()[-1]) % 4]
    assert sorted(row["label"] for row in found["news"]["train"]) == sorted(LABELS * 2)
    assert (len(found["drawn"]["train"]), found["drawn"]["tested"]) == (8, 4)
    errors = {name: one["error"] for name, one in found.items() if "error" in one}
    expected = {
        "no_test": "has no split 'test', it has 'train': name them in 'splits'",
        "cut_off": "train: 400 rows were read, but the data set says that there are 401",
        "gated": f"cannot read the data set {GATED} at {REVISION}: DatasetNotFoundError",
        "absent": "someone/absent",
        "gone": f"cannot read the data set someone/news at {'0' * 40}: DatasetNotFoundError: Revision",
        "other_configuration": "BuilderConfig 'fr' not found. Available: ['default']",
        "other_column": "other_column, train, row 1: there is no column 'topic': text, label",
        "scripted": "Dataset scripts are no longer supported",
        "pickled": "someone/pickled",
        "local": "Data files don't belong to someone/local",
        "branch": f"refers to '{branch}', which is no file of that commit",
    }
    assert errors.keys() == expected.keys(), found
    for name, part in expected.items():
        assert part in errors[name], errors[name]
        assert "another-token" not in errors[name]
    assert not list(tmp_path.rglob("executed"))
    assert not [one for one in asked if ".pkl " in one]


def test_of_a_large_data_set_only_the_part_that_is_needed_comes_over_the_network(tmp_path: Path) -> None:
    home = put_data_set(tmp_path, "someone/large", card("train"))
    draw = random.Random(0)
    with (home / "data/train-0.csv").open("w") as table:
        table.write("text,label\n")
        table.writelines(f"{draw.randbytes(500).hex()},{n % 4}\n" for n in range(30_000))
    size = (home / "data/train-0.csv").stat().st_size
    put_task(tmp_path, "large", "someone/large", splits={"train": "train"}, pool=1000)
    found, asked = load(tmp_path)
    assert found["large"]["source"]["read"]["train"]["rows"] == 1000
    sent = sum(int(one.split()[-1]) for one in asked if "train-0.csv" in one)
    assert 0 < sent < size / 2


def test_the_stage_gives_the_hub_its_token_and_shows_it_nowhere(tmp_path: Path) -> None:
    put_data_set(tmp_path, GATED, card(), train=40, test=8)
    put_task(tmp_path, "gated", GATED)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    sequence = {"name": "mine", "source": "datasets", "path": "tasks", "last": "gated"}
    params["sequence"] = sequence | {"tasks": {"gated": {"after": "base"}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    with serving(tmp_path) as (about, _):
        for token, status in ((TOKEN, 0), ("hf_another-token", 1)):  # pragma: allowlist secret
            done = subprocess.run(
                [sys.executable, str(REPOSITORY / "src/prepare.py")],
                cwd=tmp_path,
                env=os.environ | about | {"HF_TOKEN": token},
                capture_output=True,
                text=True,
            )
            assert done.returncode == status, done.stderr
            assert token not in done.stdout + done.stderr
    assert "error: cannot read the data set someone/gated" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    written = (tmp_path / "data/tasks/gated/task.json").read_text()
    assert REVISION in written
    assert TOKEN not in written


@pytest.mark.parametrize("cut", [1 << 20, (1 << 20) + 1])
def test_a_character_across_two_reads_is_whole_and_a_wrong_byte_is_counted_right(
    tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "a.csv"
    text = b"x" * (cut - 1) + "é".encode()
    path.write_bytes(text)
    check_file(path)
    path.write_bytes(text + b"ab\xe9c")
    with pytest.raises(DataError, match=rf"see its byte {len(text) + 2}\)"):
        check_file(path)
    path.write_bytes(text[:-1])
    with pytest.raises(DataError, match=rf"see its byte {len(text) - 2}\)"):
        check_file(path)
