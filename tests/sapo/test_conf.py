"""params.yaml is what conf/ composes to, and every choice in conf/ can be used."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import compose_and_dump

from laboratory import REPOSITORY
from sapo.config import Params, load_params
from sapo.data.sources import SOURCES

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
    "ag_news": ["ag_news"],
    "default": ["reuters_r8", "missing_questions", "newsgroups"],
    "mixed_four": ["reuters_r8", "election_tweets", "commonsense_qa", "xsum"],
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


def test_the_committed_parameters_are_what_conf_composes_to(tmp_path: Path) -> None:
    fresh = compose(tmp_path / "params.yaml").read_text(encoding="utf-8")
    assert (REPOSITORY / "params.yaml").read_text(encoding="utf-8") == fresh, (
        "compose params.yaml again: conf/ has changed"
    )


def test_conf_offers_every_kind_of_choice() -> None:
    assert {group for group, _ in CHOICES} == {"launch", "method", "model", "recipe", "sequence", "study"}


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


@pytest.mark.parametrize("adapter", ["adapters/first.v1", "/data/my adapters/a,b", "../first"])
def test_dvc_watches_the_adapter_s_folder_and_without_one_the_code_that_reads_it(
    tmp_path: Path, adapter: str
) -> None:
    quoted = f"model.adapter='{adapter}'"
    assert load_params(compose(tmp_path / "params.yaml", quoted)).model.adapter_path == adapter
    assert (REPOSITORY / COMMITTED["model"]["adapter_path"]).is_file()


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
    others = {"default": "embedded", "mixed_four": "embedded", "ag_news": "datasets"}
    assert sequence.source == others.get(choice, "catalog")
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


@pytest.mark.parametrize("recipe", ["superni", "trace"])
def test_a_recipe_as_the_public_code_runs_differs_by_what_is_known(tmp_path: Path, recipe: str) -> None:
    """docs/deviations.md has the list."""
    stated = load_params(compose(tmp_path / "stated.yaml", f"recipe={recipe}")).model_dump()
    as_run = load_params(compose(tmp_path / "as_run.yaml", f"recipe={recipe}_as_run")).model_dump()
    train = {"schedule": "deepspeed_warmup", "warmup_steps": 8, "dtype": "float32", "orthogonal_repeats": 8}
    asked = {"style": "plain", "model": "gemini-2.5-pro", "temperature": 0.6}
    assert as_run == stated | {
        "train": stated["train"] | train,
        "paraphrase": stated["paraphrase"] | asked,
    }


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


def test_every_task_of_every_sequence_is_known_to_a_source() -> None:
    described = {path.stem for path in (REPOSITORY / "src/sapo/data/hub").iterdir()}
    known = SOURCES["catalog"].known() | SOURCES["embedded"].known() | described
    assert {task for order in ORDERS.values() for task in order} < known
