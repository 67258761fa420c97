"""params.yaml is what conf/ composes to, and a setting that cannot be used is refused by name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import compose_and_dump

from sapo.config import Params, check_task, load_params
from sapo.data.sources import known_tasks
from sapo.runtime.errors import DataError

REPOSITORY = Path(__file__).parents[2]
CONF = REPOSITORY / "conf"
COMMITTED: dict[str, Any] = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
CHOICES = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml"))]
SEQUENCES = [choice for group, choice in CHOICES if group == "sequence"]
MODELS = [choice for group, choice in CHOICES if group == "model"]
RECIPES = {
    "ni_seq_c1": "superni",
    "ni_seq_g1": "superni",
    "ni_seq_m1": "superni",
    "trace": "trace",
}  # as published
ORDERS = {
    "default": ["reuters_r8", "election_tweets", "commonsense_qa"],
    "default_xsum": ["reuters_r8", "election_tweets", "commonsense_qa", "xsum"],
    "ni_seq_c1": ["task195", "task1310", "task273", "task611", "task224"],
    "ni_seq_c1_small": ["task195", "task1310", "task273", "task224"],
    "ni_seq_g1": ["task589", "task141", "task618", "task339", "task360"],
    "ni_seq_m1": ["task195", "task360", "task611", "task002", "task224"],
    "trace": ["C-STANCE", "FOMC", "MeetingBank", "Py150", "ScienceQA", "NumGLUE-cm"],
    "trace_small": ["C-STANCE", "FOMC", "ScienceQA", "NumGLUE-cm"],
}


def compose(target: Path, *overrides: str) -> Path:
    """What `dvc exp run -S override ...` makes of conf/."""
    compose_and_dump(str(target), str(CONF), None, "config", "", list(overrides))
    return target


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


def test_the_committed_parameters_are_what_conf_composes_to(tmp_path: Path) -> None:
    fresh = compose(tmp_path / "params.yaml").read_text(encoding="utf-8")
    assert (REPOSITORY / "params.yaml").read_text(encoding="utf-8") == fresh, (
        "compose params.yaml again: conf/ has changed"
    )


def test_conf_offers_every_kind_of_choice() -> None:
    assert {group for group, _ in CHOICES} == {"launch", "method", "model", "recipe", "sequence"}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_in_conf_composes_and_validates(tmp_path: Path, group: str, choice: str) -> None:
    params = load_params(compose(tmp_path / "params.yaml", f"{group}={choice}"))
    if group != "recipe":  # which leaves no trace but its numbers
        assert getattr(params, group).name == choice


@pytest.mark.parametrize(
    ("written", "value"), [("1e-4", 1e-4), ("0.00003", 3e-5), ("1E-6", 1e-6), ("1", 1.0)]
)
def test_a_learning_rate_means_the_same_however_it_is_written(
    tmp_path: Path, written: str, value: float
) -> None:
    assert (
        load_params(compose(tmp_path / "params.yaml", f"train.learning_rate={written}")).train.learning_rate
        == value
    )


def test_the_default_sequence_is_in_the_order_of_the_file() -> None:
    params = load_params(REPOSITORY / "params.yaml")
    assert isinstance(params, Params)
    assert params.sequence.order == list(COMMITTED["sequence"]["tasks"])
    assert params.sequence.order[-1] == params.sequence.last


@pytest.mark.parametrize("choice", SEQUENCES)
def test_every_sequence_lists_its_tasks_in_their_order(tmp_path: Path, choice: str) -> None:
    sequence = load_params(compose(tmp_path / "params.yaml", f"sequence={choice}")).sequence
    assert sequence.order == ORDERS[choice]
    assert sequence.last == ORDERS[choice][-1]
    assert [item.after for item in sequence.tasks.values()] == ["base", *ORDERS[choice][:-1]]
    assert sequence.source == ("embedded" if choice.startswith("default") else "catalog")
    assert (REPOSITORY / sequence.path).exists(), "DVC watches it"


@pytest.mark.parametrize("choice", RECIPES)
def test_a_published_sequence_has_the_paper_s_numbers(tmp_path: Path, choice: str) -> None:
    params = load_params(compose(tmp_path / "params.yaml", f"sequence={choice}"))
    trace = choice == "trace"
    assert (params.data.train_rows, params.data.test_rows) == ((3000, 3000) if trace else (1000, 1000))
    assert params.data.url is None
    assert params.selection.rows == (1000 if trace else 250)
    assert params.paraphrase.count == 20
    assert (params.prompt.max_tokens, params.evaluate.max_new_tokens) == (1536, 128)
    lora, train = params.lora, params.train
    assert (lora.r, lora.alpha, lora.dropout) == (8, 32, 0.1)
    assert (train.epochs, train.learning_rate, train.warmup_ratio) == (10, 1e-4, 0.05)
    assert train.batch_size == 64  # rows of one optimiser step


@pytest.mark.parametrize("choice", SEQUENCES)
def test_a_sequence_brings_the_numbers_of_its_recipe_and_those_it_states_itself(
    tmp_path: Path, choice: str
) -> None:
    recipe = RECIPES.get(choice) or ("small" if choice.endswith("_small") else "default")
    own = load_params(compose(tmp_path / "own.yaml", f"sequence={choice}")).model_dump()
    named = load_params(compose(tmp_path / "named.yaml", f"recipe={recipe}")).model_dump()
    stated = yaml.safe_load((CONF / "sequence" / f"{choice}.yaml").read_text(encoding="utf-8"))
    if "defaults" in stated:
        for section in stated.keys() - {"defaults", "sequence"}:
            named[section] |= stated[section]
    assert own | {"sequence": named["sequence"]} == named


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


@pytest.mark.parametrize(
    "overrides", [("sequence=trace", "recipe=default"), ("recipe=default", "sequence=trace")]
)
def test_a_recipe_that_is_asked_for_overrides_the_sequence_s_own(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    params = load_params(compose(tmp_path / "params.yaml", *overrides)).model_dump()
    assert params["sequence"]["name"] == "trace"
    assert params == load_params(REPOSITORY / "params.yaml").model_dump() | {"sequence": params["sequence"]}


def test_a_number_that_is_asked_for_overrides_every_recipe(tmp_path: Path) -> None:
    overrides = (
        "sequence=trace",
        "method=olora_sapo",
        "model=qwen3_8b",
        "data.train_rows=7",
        "paraphrase.source=api",
        "seed=3",
    )
    params = load_params(
        compose(tmp_path / "params.yaml", *overrides, "data.url=https://mirror.example/files")
    )
    assert (params.data.train_rows, params.data.test_rows, params.seed) == (7, 3000, 3)
    assert (params.method.name, params.model.name, params.paraphrase.source) == (
        "olora_sapo",
        "qwen3_8b",
        "api",
    )
    assert params.data.url == "https://mirror.example/files"


@pytest.mark.parametrize("choice", MODELS)
def test_every_hub_model_is_pinned_to_a_commit_and_small_in_memory(tmp_path: Path, choice: str) -> None:
    model = load_params(compose(tmp_path / "params.yaml", f"model={choice}")).model
    if model.source == "hub":
        assert re.fullmatch("[0-9a-f]{40}", model.revision or "")
        assert model.dtype == "bfloat16"
        assert re.fullmatch(r"[\w-]+/[\w.-]+", model.id)
    else:
        assert choice in ("smollm2_135m", "tiny_llama", "tiny_qwen3")
    thinks = "qwen3" in choice
    assert model.template_options.get("enable_thinking", "not an option") == (
        False if thinks else "not an option"
    )
    assert model.target_modules == ["q_proj", "v_proj"]


def test_every_catalogued_task_can_be_named_in_a_sequence(changed: Callable[..., Path]) -> None:
    names = sorted(known_tasks("catalog"))
    assert {task for order in ORDERS.values() for task in order} < {*names, *known_tasks("embedded")}
    tasks = {name: {"after": previous} for previous, name in zip(["base", *names], names, strict=False)}
    about = {
        "name": "all",
        "source": "catalog",
        "path": "src/sapo/benchmarks/catalog.json",
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
    known = sorted(known_tasks(source))
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


@pytest.mark.parametrize("name", leaves(COMMITTED))
def test_a_setting_that_is_missing_is_named(changed: Callable[..., Path], name: str) -> None:
    refused(changed(name), key(name))


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
        ("train.warmup_ratio", 1.0),
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
    method = {"name": "mine", "selector": selector, "paraphrases": paraphrases, "orthogonal_weight": 0.0}
    refused(changed("method", method), "method", "paraphrases")


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
    check_task(params, params.sequence.last)
    with pytest.raises(DataError, match=re.escape(repr(task))):
        check_task(params, task)
