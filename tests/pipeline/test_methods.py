"""Methods that read earlier tasks' rows again, through DVC: what a change in a task's rows makes anew."""

import json
from pathlib import Path

from laboratory import new_project, read, run, settings, stages_run

SEQUENCE = """name: mine
source: folder
path: mine
tasks:
  one: {after: base}
  two: {after: one}
last: two
"""


def write_rows(folder: Path, task: str, rows: int) -> None:
    """The task's training rows, each time others, and its test rows."""
    place = folder / "mine" / task
    place.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", rows), ("test", 2)):
        content = [{"sentence": f"{task} {split} {n} of {count}", "label": "yes"} for n in range(count)]
        (place / f"{split}.json").write_text(json.dumps(content))


def trained(folder: Path, *command: str) -> set[str]:
    """The tasks that DVC trains so that the last one is up to date."""
    made = stages_run(run(folder, "dvc", *command, "train@two"))
    return {stage.partition("@")[2] for stage in made if stage.startswith("train@")}


def test_a_change_of_rows_trains_anew_what_reads_them_and_nothing_else(tmp_path: Path) -> None:
    folder = new_project(tmp_path / "project")
    (folder / "conf/sequence/mine.yaml").write_text(SEQUENCE)
    about = {task: {"instruction": "Judge it.", "suffix": "?", "labels": []} for task in ("one", "two")}
    (folder / "mine").mkdir()
    (folder / "mine/instructions.json").write_text(json.dumps(about))
    for method, share in (("joint", 6), ("replay", 1)):
        for task in about:
            write_rows(folder, task, 4)
        chosen = settings("sequence=mine", f"method={method}")
        assert trained(folder, "exp", "run", *chosen) == {"one", "two"}
        write_rows(folder, "two", 5)
        assert trained(folder, "repro") == {"two"}
        write_rows(folder, "one", 6)
        assert trained(folder, "repro") == {"one", "two"}
        one, two = read(folder / "models/two/lineage.json")["tasks"]
        assert (one["run"]["earlier"], one["rows"], two["rows"]) == ([], 6, 5)
        [again] = two["run"]["earlier"]
        assert (again["task"], again["train"], again["rows"]) == ("one", one["run"]["train"], share)
