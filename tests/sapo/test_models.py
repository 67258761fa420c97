import shutil
from pathlib import Path

import pytest
import yaml

from sapo.files import DataError
from sapo.models import load_model, load_tokenizer, make_base, read_base
from sapo.params import Model
from sapo.prompts import PromptEncoder
from sapo.tasks import Example

CONF = Path(__file__).parents[2] / "conf/model"


def model_of(name: str, **changes: object) -> Model:
    return Model.model_validate(yaml.safe_load((CONF / f"{name}.yaml").read_text()) | changes)


def test_a_local_folder_is_recorded_not_copied(tiny_base: Path, tmp_path: Path) -> None:
    make_base(model_of("tiny_llama", source="folder", id=str(tiny_base)), tmp_path, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["base.json"]
    assert read_base(tmp_path)["sha256"]["model.safetensors"] == read_base(tiny_base)["sha256"]["model.safetensors"]
    assert load_model(tmp_path, "float32").config.hidden_size == 32
    assert load_tokenizer(tmp_path).chat_template


def test_fault_19_a_path_with_adapter_in_it_and_a_trailing_slash_is_an_ordinary_folder(tiny_base: Path, tmp_path: Path) -> None:
    source = tmp_path / "my_adapter_model"
    shutil.copytree(tiny_base, source)
    target = tmp_path / "base"
    target.mkdir()
    make_base(model_of("tiny_llama", source="folder", id=f"{source}/"), target, seed=0)
    assert load_model(target, "float32").num_parameters() > 1000


def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.id: .*is not a Hugging Face model folder"):
        make_base(model_of("tiny_llama", source="folder", id=str(tmp_path)), tmp_path, seed=0)


def test_a_hub_model_must_be_pinned_and_an_unreachable_hub_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="40-digit commit id"):
        model_of("tiny_llama", source="hub", id="someone/model", revision="main")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"model\.id: cannot fetch someone/model"):
        make_base(model_of("tiny_llama", source="hub", id="someone/model", revision="0" * 40), tmp_path, seed=0)


def test_the_default_model_is_converted_and_its_prompts_are_those_of_its_chat_template(tmp_path: Path) -> None:
    make_base(model_of("smollm2_135m"), tmp_path, seed=0)
    assert read_base(tmp_path)["sha256"].keys() >= {"model.safetensors", "tokenizer.json", "chat_template.jinja"}
    tokenizer = load_tokenizer(tmp_path)
    encoder = PromptEncoder(tokenizer, 256, {})
    texts = ["Profits rose 12 pct.", 'He said: "no"', "Two  spaces, a line\nbreak and {braces}", "naïve 文本 🙂", "#tag @name!"]
    rows = encoder.encode("Classify it.", "Answer.", "en", [Example(text, "earn") for text in texts], answers=True)
    for text, row in zip(texts, rows, strict=True):
        turn = {"role": "user", "content": f"Classify it.\n\nText:\n{text}\n\nAnswer."}
        stock = tokenizer.apply_chat_template([turn], add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
        assert row.prompt == stock
        assert row.answer == [*tokenizer("earn")["input_ids"], tokenizer.convert_tokens_to_ids("<|im_end|>")]
