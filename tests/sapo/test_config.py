"""A setting that cannot be used is refused by name."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from laboratory import REPOSITORY
from sapo.config import load_params
from sapo.data.sources import SOURCES
from sapo.runtime.errors import DataError

CONF = REPOSITORY / "conf"
FIXED: dict[str, Any] = yaml.safe_load((CONF / "method/fixed.yaml").read_text(encoding="utf-8"))
COMMITTED: dict[str, Any] = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))


def leaves(tree: dict[str, Any], above: str = "") -> list[str]:
    """The dotted names of all settings."""
    found = []
    for key, value in tree.items():
        found += leaves(value, f"{above}{key}.") if isinstance(value, dict) and value else [f"{above}{key}"]
    return found


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """The committed parameters with one setting replaced, or removed where no value is given."""

    def change(name: str, *value: Any) -> Path:
        content = yaml.safe_load(yaml.safe_dump(COMMITTED, sort_keys=False))
        *sections, key = name.split(".")
        section = content
        for above in sections:
            section = section[above]
        if value:
            section[key] = value[0]
        else:
            del section[key]
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return change


def key(name: str) -> str:
    """How a message names a setting: alone at the start of a line."""
    return f"\n  {name}: "


def refused(path: Path, *named: str) -> None:
    with pytest.raises(DataError) as caught:
        load_params(path)
    for name in (str(path), *named):
        assert name in str(caught.value)


@pytest.mark.parametrize("source", ["embedded", "catalog"])
def test_a_path_that_the_source_would_not_read_is_refused(changed: Callable[..., Path], source: str) -> None:
    task = "xsum" if source == "embedded" else "FOMC"
    about = {"name": "x", "source": source, "path": "mine", "tasks": {task: {"after": "base"}}, "last": task}
    refused(changed("sequence", about), "sequence", "use source 'folder'")


@pytest.mark.parametrize(
    "url", ["https://me:s3cr3t@host/files", "https://s3cr3t@host/files", "https://host/files?token=s3cr3t"]
)
def test_a_secret_in_data_url_is_refused_and_not_shown(changed: Callable[..., Path], url: str) -> None:
    with pytest.raises(DataError, match=r"data\.url: ") as caught:
        load_params(changed("data.url", url))
    assert "s3cr3t" not in str(caught.value)
    for usable in (None, "../files", "~/a@b", "https://host/path@1", "s3://bucket/files"):
        assert load_params(changed("data.url", usable)).data.url == usable


def test_every_catalogued_task_can_be_named_in_a_sequence(changed: Callable[..., Path]) -> None:
    names = sorted(SOURCES["catalog"].known())
    tasks = {name: {"after": previous} for previous, name in zip(["base", *names], names, strict=False)}
    about = {
        "name": "all",
        "source": "catalog",
        "path": "src/sapo/data/catalog.json",
        "tasks": tasks,
        "last": names[-1],
    }
    assert load_params(changed("sequence", about)).sequence.order == names


@pytest.mark.parametrize(
    ("source", "task"),
    [
        ("catalog", "task19"),
        ("catalog", "reuters_r8"),
        ("catalog", "fomc"),
        ("embedded", "task195"),
        ("embedded", "FOMC"),
    ],
)
def test_a_task_that_its_source_does_not_know_is_refused_by_name(
    changed: Callable[..., Path], source: str, task: str
) -> None:
    about = {"name": "mine", "source": source, "path": "x", "tasks": {task: {"after": "base"}}, "last": task}
    known = sorted(SOURCES[source].known())
    refused(
        changed("sequence", about), f"no task of source {source!r} is called {task!r}", known[0], known[-1]
    )


@pytest.mark.parametrize(
    ("task", "safe"),
    [
        ("mine", True),
        ("Code-150.v2", True),
        ("7", True),
        ("a" * 200, True),
        ("xsum", True),
        ("base", False),
        ("", False),
        ("../x", False),
        (".hidden", False),
        ("a b", False),
        ("a/b", False),
        ("{x}", False),
        ("立场", False),
        ("mine\n", False),
    ],
)
def test_a_task_of_a_folder_may_have_any_safe_name(
    changed: Callable[..., Path], task: str, safe: bool
) -> None:
    about = {
        "name": "mine",
        "source": "folder",
        "path": "/some/folder",
        "tasks": {task: {"after": "base"}},
        "last": task,
    }
    path = changed("sequence", about)
    if safe:
        assert load_params(path).sequence.order == [task]
    else:
        refused(path, f"{task!r} cannot be a task's name")


FOLDER = {"name": "mine", "source": "folder", "path": "/some/folder"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (2021, "2021"),
        (True, "true (as are yes and on)"),
        (False, "false (as are no and off)"),
        (1000.0, "1000.0"),
        (None, "null"),
    ],
)
def test_a_name_that_yaml_takes_for_no_text_is_to_be_put_in_quotes(
    changed: Callable[..., Path], name: Any, shown: str
) -> None:
    tasks = {name: {"after": "base"}, "b": {"after": name}}
    path = changed("sequence", FOLDER | {"name": name, "tasks": tasks, "last": name})
    say = "is not a text in YAML: put it in quotes"
    with pytest.raises(DataError) as caught:
        load_params(path)
    message = str(caught.value)
    assert set(message.splitlines()[1:]) == {
        f"  sequence.name: {shown} {say}",
        f"  sequence.tasks: the key {shown} {say}",
        f"  sequence.tasks.b.after: {shown} {say}",
        f"  sequence.last: {shown} {say}",
    }
    assert "Input should be" not in message


@pytest.mark.parametrize("name", ["2021", "no", "null", "1.5", "2021-01-02", "0x10", "true"])
def test_a_name_in_quotes_is_a_name(changed: Callable[..., Path], name: str) -> None:
    tasks = {name: {"after": "base"}, "b": {"after": name}}
    path = changed("sequence", FOLDER | {"name": name, "tasks": tasks, "last": "b"})
    assert load_params(path).sequence.order == [name, "b"]


@pytest.mark.parametrize(
    "name", ["sequence.name", "method.name", "method.selector", "model.name", "model.id", "launch.command"]
)
@pytest.mark.parametrize("value", [2021, True, 1.5])
def test_every_other_setting_that_is_a_text_says_the_same(
    changed: Callable[..., Path], name: str, value: Any
) -> None:
    refused(
        changed(name, value), f"{key(name)}{json.dumps(value)}", "is not a text in YAML: put it in quotes"
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~/my tasks", "~ is not expanded: write the whole path, or ${oc.env:HOME}/my tasks"),
        ("~", "~ is not expanded: write the whole path, or ${oc.env:HOME}"),
        ("~me/tasks", "~me is not expanded: write the whole path"),
        ("$HOME/tasks", "$HOME is not expanded: write the whole path, or ${oc.env:HOME}/tasks"),
        ("${HOME}/tasks", "${HOME} is not expanded: write the whole path, or ${oc.env:HOME}/tasks"),
        ("/data/$USER/x", "$USER is not expanded: write the whole path, or /data/${oc.env:USER}/x"),
    ],
)
def test_a_path_that_a_shell_would_expand_is_refused_with_what_to_write(
    changed: Callable[..., Path], path: str, message: str
) -> None:
    tasks = {"a": {"after": "base"}}
    refused(
        changed("sequence", FOLDER | {"path": path, "tasks": tasks, "last": "a"}), "sequence.path", message
    )
    refused(changed("paraphrase.path", path), "paraphrase.path", message)
    refused(changed("model", COMMITTED["model"] | {"source": "folder", "wheel": None, "id": path}), message)
    if not path.startswith("~/"):  # which fsspec expands
        refused(changed("data.url", path), "data.url", message)


@pytest.mark.parametrize("path", ["../x", "/a/b$c", "x~", "/x/~/y", "/a/5$", "/a/${b"])
def test_a_path_that_only_looks_like_it_is_taken_as_it_is(changed: Callable[..., Path], path: str) -> None:
    about = FOLDER | {"path": path, "tasks": {"a": {"after": "base"}}, "last": "a"}
    assert load_params(changed("sequence", about)).sequence.path == path


def test_a_catalogued_task_that_cannot_be_used_is_refused_with_the_reason_and_not_offered(
    changed: Callable[..., Path],
) -> None:
    for task, why in SOURCES["catalog"].unusable().items():
        about = {"name": "x", "source": "catalog", "path": "src/sapo/data/catalog.json"}
        refused(changed("sequence", about | {"tasks": {task: {"after": "base"}}, "last": task}), task, why)
        with pytest.raises(DataError, match="known: ") as caught:
            load_params(changed("sequence", about | {"tasks": {"none": {"after": "base"}}, "last": "none"}))
        assert task not in str(caught.value)


# Of model.path, model.paths and their like for the adapter DVC has need, and no stage; a sequence may have no
# probes
MAY_BE_MISSING = ("model.path", "model.adapter", "sequence.probes")


@pytest.mark.parametrize("name", [name for name in leaves(COMMITTED) if not name.startswith(MAY_BE_MISSING)])
def test_a_setting_that_is_missing_is_named(changed: Callable[..., Path], name: str) -> None:
    refused(changed(name), key(name))


@pytest.mark.parametrize(
    ("probes", "why"),
    [
        (["xsum", "reuters_r8"], "probes: 'reuters_r8' is trained too"),
        (["xsum", "xsum"], "probes: 'xsum' is named twice"),
        (["task195"], "probes: no task of source 'embedded' is called 'task195'"),
        (["../xsum"], "probes: '../xsum' cannot be a task's name"),
        (["base"], "probes: 'base' cannot be a task's name"),
        ([3], "sequence.probes.0"),
    ],
)
def test_a_probe_that_cannot_be_one_is_named(
    changed: Callable[..., Path], probes: list[Any], why: str
) -> None:
    refused(changed("sequence.probes", probes), why)


def test_probes_are_evaluated_after_the_tasks(changed: Callable[..., Path]) -> None:
    sequence = load_params(changed("sequence.probes", ["xsum"])).sequence
    assert sequence.evaluated == [*sequence.order, "xsum"]
    assert "xsum" not in sequence.stages


@pytest.mark.parametrize(
    "name", ["trian", "train.epoch", "lora.rank", "sequence.tasks.reuters_r8.before", "model.wheel.url"]
)
def test_an_unknown_key_is_named(changed: Callable[..., Path], name: str) -> None:
    refused(changed(name, 3), key(name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train", None),
        ("train.epochs", "3"),
        ("train.epochs", True),
        ("train.epochs", 1.5),
        ("train.learning_rate", "fast"),
        ("data.train_rows", None),
        ("data.url", 3),
        ("paraphrase.path", None),
        ("paraphrase.model", 4),
        ("paraphrase.concurrency", 2.0),
        ("sequence.path", None),
        ("method.paraphrases", "true"),
        ("method.replay", None),
        ("method.candidate", 1.0),
        ("method.texts", "Judge it."),
        ("method.name", 7),
        ("model.target_modules", "q_proj"),
        ("model.wheel.sha256", "abc"),
        ("sequence.tasks", ["reuters_r8"]),
        ("sequence.tasks.reuters_r8", "base"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(changed: Callable[..., Path], name: str, value: Any) -> None:
    refused(changed(name, value), key(name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("data.train_rows", 0),
        ("data.max_words", 0),
        ("prompt.max_tokens", 15),
        ("paraphrase.count", 0),
        ("paraphrase.source", "crowd"),
        ("paraphrase.temperature", -0.1),
        ("paraphrase.temperature", 2.1),
        ("paraphrase.temperature", float("nan")),
        ("paraphrase.concurrency", 0),
        ("paraphrase.concurrency", 65),
        ("sequence.source", "web"),
        ("selection.rows", -1),
        ("selection.batch_tokens", 0),
        ("method.selector", "lowest"),
        ("method.orthogonal_weight", -0.1),
        ("method.replay", -0.1),
        ("method.replay", 1.1),
        ("method.adapter", "merged"),
        ("method.candidate", -1),
        ("model.dtype", "int8"),
        ("model.source", "web"),
        ("model.target_modules", []),
        ("lora.r", 0),
        ("lora.alpha", 0),
        ("lora.dropout", 1.0),
        ("lora.dropout", -0.1),
        ("train.epochs", 0),
        ("train.batch_tokens", 0),
        ("train.learning_rate", 0.0),
        ("train.learning_rate", float("nan")),
        ("train.learning_rate", float("inf")),
        ("train.schedule", "reduce_lr_on_plateau"),  # needs losses of other rows
        ("train.schedule", "cosine_with_min_lr"),  # needs a lowest rate
        ("train.schedule", "Cosine"),
        ("train.warmup_ratio", 1.0),
        ("train.warmup_steps", -1),
        ("train.warmup_steps", 0.05),
        ("train.dtype", "float16"),
        ("train.orthogonal_repeats", 0),
        ("train.max_grad_norm", 0),
        ("evaluate.max_new_tokens", 0),
    ],
)
def test_a_value_out_of_range_is_named(changed: Callable[..., Path], name: str, value: Any) -> None:
    refused(changed(name, value), key(name))


def test_every_wrong_key_is_named_at_once(changed: Callable[..., Path]) -> None:
    path = changed("train.epochs", 0)
    content = yaml.safe_load(path.read_text())
    content["lora"]["r"] = "four"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    refused(path, key("train.epochs"), key("lora.r"))


@pytest.mark.parametrize(
    ("tasks", "last", "named"),
    [
        ({}, "base", "at least one task"),
        ({"task_of_nobody": "base"}, "task_of_nobody", "task_of_nobody"),
        ({"../x": "base"}, "../x", "../x"),
        ({"a/b": "base"}, "a/b", "a/b"),
        ({"": "base"}, "", "cannot be a task's name"),
        ({"base": "base"}, "base", "cannot be a task's name"),
        ({"xsum\n": "base"}, "xsum\n", "cannot be a task's name"),
        ({"xsum": "reuters_r8"}, "xsum", "tasks.xsum.after"),
        ({"reuters_r8": "base", "xsum": "base"}, "xsum", "tasks.xsum.after"),
        ({"reuters_r8": "xsum", "xsum": "reuters_r8"}, "xsum", "tasks.reuters_r8.after"),
        ({"xsum": "base", "reuters_r8": "reuters_r8"}, "reuters_r8", "tasks.reuters_r8.after"),
        ({"reuters_r8": "base", "xsum": "reuters_r8"}, "reuters_r8", "last is 'reuters_r8'"),
        ({"xsum": "base"}, "base", "last is 'base'"),
    ],
)
def test_a_sequence_that_is_no_chain_of_known_tasks_is_refused(
    changed: Callable[..., Path], tasks: dict[str, str], last: str, named: str
) -> None:
    path = changed(
        "sequence",
        COMMITTED["sequence"] | {"tasks": {t: {"after": a} for t, a in tasks.items()}, "last": last},
    )
    refused(path, "sequence", named)


@pytest.mark.parametrize(
    ("selector", "paraphrases"), [("original", True), ("sapo", False), ("random", False)]
)
def test_paraphrases_that_no_selector_reads_or_a_selector_without_them_are_refused(
    changed: Callable[..., Path], selector: str, paraphrases: bool
) -> None:
    method = COMMITTED["method"] | {"selector": selector, "paraphrases": paraphrases}
    refused(changed("method", method), "method", "paraphrases")


ALL = dict.fromkeys(COMMITTED["sequence"]["tasks"], "Judge it.")
LAST = COMMITTED["paraphrase"]["count"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"candidate": None}, "selector 'fixed' needs candidate, or texts for all tasks"),
        ({"candidate": LAST + 1}, f"method.candidate is {LAST + 1}, but the last candidate is number {LAST}"),
        ({"candidate": 1, "paraphrases": False}, "candidate 1 is a paraphrase"),
        ({"candidate": None, "texts": {"xsum": "Judge it."}}, "'xsum' is not a task of the sequence"),
        ({"candidate": None, "texts": {"reuters_r8": "Judge it."}}, "no text for missing_questions, and"),
        ({"texts": {"reuters_r8": " \n"}}, "the text for reuters_r8 is empty"),
        ({"texts": {"reuters_r8": ""}}, "the text for reuters_r8 is empty"),
        ({"selector": "sapo"}, "candidate and texts belong to selector 'fixed'"),
        ({"selector": "sapo", "candidate": None, "texts": ALL}, "candidate and texts belong to selector"),
        ({"adapter": "joint", "replay": 0.1}, "replay must be 0 with adapter 'joint'"),
        ({"adapter": "joint", "orthogonal_weight": 0.5}, "orthogonal_weight must be 0 with adapter 'joint'"),
        (
            {"adapter": "single", "orthogonal_weight": 0.5},
            "orthogonal_weight must be 0 with adapter 'single'",
        ),
    ],
)
def test_a_method_whose_parts_do_not_fit_is_refused(
    changed: Callable[..., Path], change: dict[str, Any], named: str
) -> None:
    refused(changed("method", FIXED | change), named)


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": LAST},
        {"paraphrases": False},
        {"candidate": None, "texts": ALL, "paraphrases": False},
        {"candidate": LAST + 1, "texts": ALL},
        {"adapter": "single", "replay": 1},
        {"replay": 0.1, "orthogonal_weight": 0.5},
    ],
)
def test_a_method_whose_parts_fit_can_be_used(changed: Callable[..., Path], change: dict[str, Any]) -> None:
    method = load_params(changed("method", FIXED | change)).method
    assert method.model_dump() == FIXED | change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"source": "hub", "wheel": None, "revision": None}, "revision"),
        ({"source": "hub", "wheel": None, "revision": "main"}, "revision"),
        ({"source": "wheel", "wheel": None}, "wheel"),
        ({"source": "folder"}, "wheel"),
    ],
)
def test_a_model_that_is_not_pinned_or_not_complete_is_refused(
    changed: Callable[..., Path], change: dict[str, Any], named: str
) -> None:
    model = yaml.safe_load((CONF / "model" / "smollm2_135m.yaml").read_text())
    refused(changed("model", model | change), f"model: Value error, {named}")


@pytest.mark.parametrize("content", ["", "[]", "seed: 42\n", "a: [1", "seed: {"])
def test_a_file_that_holds_no_parameters_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content)
    refused(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "params.yaml", "is missing")


@pytest.mark.parametrize("task", ["base", "../xsum", "xsu", ""])
def test_fault_04_a_stage_argument_must_be_a_whole_task_name(task: str) -> None:
    params = load_params(REPOSITORY / "params.yaml")
    assert params.sequence.before(params.sequence.last) == params.sequence.order[:-1]
    with pytest.raises(DataError, match=re.escape(repr(task))):
        params.sequence.before(task)
