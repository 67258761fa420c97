"""params.yaml is what conf/ composes to, and a setting that cannot be used is refused by name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import compose_and_dump

from sapo.files import DataError
from sapo.params import Params, check_task, load_params

REPOSITORY = Path(__file__).parents[2]
CONF = REPOSITORY / "conf"
COMMITTED: dict[str, Any] = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
CHOICES = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml"))]


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
    assert (REPOSITORY / "params.yaml").read_text(encoding="utf-8") == fresh, "compose params.yaml again: conf/ has changed"


def test_conf_offers_every_kind_of_choice() -> None:
    assert {group for group, _ in CHOICES} == {"method", "model", "sequence"}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_in_conf_composes_and_validates(tmp_path: Path, group: str, choice: str) -> None:
    params = load_params(compose(tmp_path / "params.yaml", f"{group}={choice}"))
    assert getattr(params, group).name == choice


@pytest.mark.parametrize(("written", "value"), [("1e-4", 1e-4), ("0.00003", 3e-5), ("1E-6", 1e-6), ("1", 1.0)])
def test_a_learning_rate_means_the_same_however_it_is_written(tmp_path: Path, written: str, value: float) -> None:
    assert load_params(compose(tmp_path / "params.yaml", f"train.learning_rate={written}")).train.learning_rate == value


def test_the_default_sequence_is_in_the_order_of_the_file() -> None:
    params = load_params(REPOSITORY / "params.yaml")
    assert isinstance(params, Params)
    assert params.sequence.order == list(COMMITTED["sequence"]["tasks"])
    assert params.sequence.order[-1] == params.sequence.last


@pytest.mark.parametrize("name", leaves(COMMITTED))
def test_a_setting_that_is_missing_is_named(changed: Callable[..., Path], name: str) -> None:
    refused(changed(name), key(name))


@pytest.mark.parametrize("name", ["trian", "train.epoch", "lora.rank", "sequence.tasks.reuters_r8.before", "model.wheel.url"])
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
        ("select.rows", -1),
        ("select.batch_size", 0),
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
        ("train.gradient_accumulation", 0),
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
    path = changed("sequence", COMMITTED["sequence"] | {"tasks": {t: {"after": a} for t, a in tasks.items()}, "last": last})
    refused(path, "sequence", named)


@pytest.mark.parametrize(("selector", "paraphrases"), [("original", True), ("sapo", False), ("random", False)])
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
