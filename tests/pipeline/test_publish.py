"""`make publish` on the tiny model: what it leaves, what a clone has, when results may be signed again."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from laboratory import REPOSITORY, STUDIED, commit, experiment, new_project, read, run, settings, stages_run

TABLE = "# Lab\n\n<!-- results -->\n| old |\n<!-- /results -->\nEnd\n"
METHODS = ["lora_inc", "lora_inc_sapo", "olora", "olora_sapo"]
FEWER = {"MORE_SEEDS = 2": "MORE_SEEDS = 1", 'ONCE = ("joint", "seq_lora", "replay")': 'ONCE = ("replay",)'}


def settle(project: Path) -> None:
    """Make the tiny settings the defaults: what is published is the default run."""
    config, recipe = project / "conf/config.yaml", project / "conf/recipe/default.yaml"
    text = config.read_text()
    for group, name in (("model", "tiny_llama"), ("sequence", "pair")):
        text = re.sub(rf"- {group}: \w+", f"- {group}: {name}", text)
    config.write_text(text)
    content = yaml.safe_load(recipe.read_text())
    for override in settings()[1::2]:
        key, _, value = override.partition("=")
        section, _, field = key.partition(".")
        if field:
            content[section][field] = yaml.safe_load(value)
    study = yaml.safe_load((project / "conf/study/quick.yaml").read_text())
    study |= {"name": "default", "pairs": [STUDIED], "wordings": 6, "train_rows": 6}
    (project / "conf/study/default.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    recipe.write_text("# @package _global_\n" + yaml.safe_dump(content, sort_keys=False))
    tool = project / "tools/publish.py"
    text = tool.read_text()
    for most, fewer in FEWER.items():
        assert most in text
        text = text.replace(most, fewer)
    tool.write_text(text)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository after `python tools/publish.py`, committed."""
    project = new_project(tmp_path_factory.mktemp("publish") / "project")
    settle(project)
    (project / "README.md").write_text(TABLE)
    (project / "published").mkdir()
    (project / "published/stale").write_text("of an earlier time")
    experiment(project)
    commit(project, "settled")
    assert "published/ holds" in run(project, sys.executable, "tools/publish.py")
    commit(project, "published")
    return project


def fresh(project: Path, folder: Path) -> Path:
    run(folder.parent, "git", "clone", "-q", str(project), str(folder))
    return folder


@pytest.mark.long
def test_a_fresh_clone_has_every_method_without_training(published: Path, tmp_path: Path) -> None:
    assert not (published / "published/stale").exists()
    text = (published / "README.md").read_text()
    found = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    assert found == [*((method, "1, 2") for method in METHODS), ("replay", "1 (test rows)")]
    assert re.findall(r"^\| `(\w+)` - `(\w+)` \| 2 seeds", text, re.MULTILINE) == [
        ("lora_inc_sapo", "lora_inc"),
        ("olora_sapo", "olora"),
    ]
    assert read(published / "metrics/details.json")["method"] == "lora_inc_sapo"
    assert {path.stem for path in (published / "results").glob("*.json")} == {
        *(f"{method}-{seed}" for method in METHODS for seed in (1, 2)),
        "replay-1",
    }
    assert not (published / ".publish").exists()
    clone = fresh(published, tmp_path / "clone")
    run(clone, "dvc", "pull", "--allow-missing")
    assert stages_run(run(clone, "dvc", "repro")) == {"prepare", "base_model"}
    for method in METHODS:
        output = run(clone, "dvc", "exp", "run", "--pull", "-S", f"method={method}")
        assert stages_run(output) <= {"report"}  # whose own files are in Git, not in the store
        details = read(clone / "metrics/details.json")
        assert details["method"] == method
        assert details == read(clone / f"results/{method}-1.json")["summary"]


@pytest.mark.long
def test_changed_code_is_signed_only_where_it_changes_no_number(published: Path, tmp_path: Path) -> None:
    clone = fresh(published, tmp_path / "clone")
    run(clone, "git", "config", "user.name", "test")
    run(clone, "git", "config", "user.email", "test@example.org")
    place = clone / "src/sapo/selection/loss.py"
    text = place.read_text()
    assert "commit or stash" in run_changed(clone, place, text + "\n# a comment\n")
    shutil.copy(
        clone / "results/replay-1.json", clone / "results/later-1.json"
    )  # after all that was published
    write_more(clone)
    commit(clone, "a comment, and a report that writes one more file")
    before = {path.name for path in (clone / "published").rglob("*") if path.is_file()}
    run(clone, sys.executable, "tools/publish.py", "--same")
    after = {path.name for path in (clone / "published").rglob("*") if path.is_file()}
    assert len(after - before) > 0
    assert (clone / "plots/more.txt").read_text() == "more"
    assert (clone / "results/later-1.json").is_file()
    assert not run(clone, "git", "status", "--porcelain", "--", "results/*.json")
    commit(clone, "signed")
    another = fresh(clone, tmp_path / "another")
    run(another, "dvc", "pull", "--allow-missing")
    assert stages_run(run(another, "dvc", "repro")) == {"prepare", "base_model"}
    assert stages_run(run(another, "dvc", "exp", "run", "--pull", "-S", "method=olora")) <= {"report"}

    replayed = clone / "src/sapo/training/rows.py"
    of_replay = replayed.read_text()
    assert "order[: earlier.rows]" in of_replay
    replayed.write_text(of_replay.replace("order[: earlier.rows]", "order[-earlier.rows :]"))
    commit(clone, "other numbers of a method that is in results/ alone")
    refused = run(clone, sys.executable, "tools/publish.py", "--same", fails=True)
    assert re.search(r"results/replay-1\.json: [a-z ]*rows are not the stored ones", refused)
    assert not run(clone, "git", "status", "--porcelain")

    replayed.write_text(of_replay)
    place.write_text(text.replace("return asked", "return [loss * 1.001 for loss in asked]"))
    commit(clone, "other numbers")
    refused = run(clone, sys.executable, "tools/publish.py", "--same", fails=True)
    assert "data/prompts/reuters_r8.json" in refused
    assert "not byte for byte the stored ones" in refused
    assert not run(clone, "git", "status", "--porcelain")


def write_more(clone: Path) -> None:
    """Let the stage report have an output that is not stored."""
    for name, old, new in (
        ("src/report.py", '    page = PLOTS / "report', '    (PLOTS / "more.txt").write_text("more")\n'),
        ("dvc.yaml", "      - plots/report.html: {cache: false}", "      - plots/more.txt: {cache: false}\n"),
    ):
        text = (clone / name).read_text()
        assert text.count(old) == 1
        (clone / name).write_text(text.replace(old, new + old))


def run_changed(clone: Path, place: Path, text: str) -> str:
    """What `tools/publish.py` says to a change that is not committed."""
    place.write_text(text)
    return run(clone, sys.executable, "tools/publish.py", "--same", fails=True)


def test_the_published_results_are_of_this_code_and_these_settings() -> None:
    """dvc.lock knows the modules and parameters of every stage as they are now."""
    stale = []
    for stage, changes in json.loads(run(REPOSITORY, "dvc", "status", "--json")).items():
        for change in changes:
            deps = change.get("changed deps", {}) if isinstance(change, dict) else {}
            stale += [(stage, dep) for dep in deps if dep.startswith("src/") or dep == "params.yaml"]
    assert stale == [], "run `make publish`, with SAME=1 where no number has changed"


def test_everything_that_is_published_can_be_pulled() -> None:
    """Each output of the committed dvc.lock that DVC keeps is in the store, each file of a folder too."""
    committed = run(REPOSITORY, "git", "show", "HEAD:dvc.lock")  # a run rewrites the one in the workspace
    lock = yaml.safe_load(committed)["stages"]
    assert sorted(lock) == sorted(run(REPOSITORY, "dvc", "stage", "list", "--name-only").split())
    own = {"data/tasks", "models/base"}
    store = REPOSITORY / "published/files/md5"
    kept = [out for stage in lock.values() for out in stage["outs"] if out["path"] not in own]
    in_git = (".csv", ".png", ".html", "cl.json", "details.json")
    cached = [out for out in kept if not out["path"].endswith(in_git)]
    assert len(cached) > 20
    for out in cached:
        blob = store / out["md5"][:2] / out["md5"][2:]
        assert blob.is_file(), out["path"]
        if out["md5"].endswith(".dir"):
            for file in read_list(blob):
                assert (store / file["md5"][:2] / file["md5"][2:]).is_file(), (out["path"], file["relpath"])


def test_the_readmes_tables_are_those_of_the_published_runs() -> None:
    sys.path.insert(0, str(REPOSITORY / "tools"))
    from publish import DIFFERENCES, END, START

    files = sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "results").glob("*.json"))
    pairs = [part for pair in DIFFERENCES for part in ("--difference", *pair)]
    printed = run(REPOSITORY, sys.executable, "tools/compare.py", *files, "--md", *pairs)
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert text.partition(START)[2].partition(END)[0] == printed


def read_list(path: Path) -> list[dict[str, str]]:
    return yaml.safe_load(path.read_text())
