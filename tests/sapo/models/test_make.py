"""The base model's folder: recorded from a folder, converted from a GGUF."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from laboratory import REPOSITORY
from sapo.artifacts.base_model import read_base
from sapo.artifacts.task import Example
from sapo.config import Model
from sapo.models.load import load_model, load_tokenizer
from sapo.models.make import _gguf_read_once, make_base
from sapo.prompts.encoder import PromptEncoder
from sapo.runtime.errors import ArtifactError, DataError

CONF = REPOSITORY / "conf/model"


def model_of(name: str, **changes: object) -> Model:
    return Model.model_validate(yaml.safe_load((CONF / f"{name}.yaml").read_text()) | changes)


def test_a_local_folder_is_recorded_not_copied(tiny_base: Path, tmp_path: Path) -> None:
    make_base(model_of("tiny_llama", source="folder", id=str(tiny_base)), tmp_path, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["base.json"]
    assert read_base(tmp_path).sha256["model.safetensors"] == read_base(tiny_base).sha256["model.safetensors"]
    assert load_model(tmp_path, "float32").config.hidden_size == 32
    assert load_tokenizer(tmp_path).chat_template


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("model.safetensors", None, None),
        ("config.json", b"1e-06", b"1e-05"),
        ("tokenizer.json", b'"add_prefix_space": false', b'"add_prefix_space": true '),
        ("chat_template.jinja", b"assistant", b"Assistant"),
    ],
)
def test_a_folder_whose_files_have_changed_is_refused_until_it_is_recorded_again(
    tiny_base: Path, tmp_path: Path, file: str, old: bytes | None, new: bytes | None
) -> None:
    """Also where size and name stay, and where the change is undone."""
    source, base = tmp_path / "mine", tmp_path / "base"
    shutil.copytree(tiny_base, source)
    base.mkdir()
    model = model_of("tiny_llama", source="folder", id=str(source))
    make_base(model, base)
    first, before = read_base(base).fingerprint, (source / file).read_bytes()
    load_model(base, "float32")
    changed = before.replace(old, new) if old and new else before[:-1] + bytes([before[-1] ^ 1])
    assert len(changed) == len(before)
    assert changed != before
    (source / file).write_bytes(changed)
    for load in (lambda: load_model(base, "float32"), lambda: load_tokenizer(base)):
        with pytest.raises(ArtifactError, match=rf"mine is not the model that .*records: see {file}"):
            load()
    make_base(model, base)
    assert read_base(base).fingerprint != first
    (source / file).write_bytes(before)
    with pytest.raises(ArtifactError, match=f"see {file}"):
        load_tokenizer(base)
    shutil.move(source, tmp_path / "moved")
    make_base(model.model_copy(update={"id": str(tmp_path / "moved")}), base)
    assert read_base(base).fingerprint == first


def test_fault_19_a_path_with_adapter_in_it_and_a_trailing_slash_is_an_ordinary_folder(
    tiny_base: Path, tmp_path: Path
) -> None:
    source = tmp_path / "my_adapter_model"
    shutil.copytree(tiny_base, source)
    target = tmp_path / "base"
    target.mkdir()
    make_base(model_of("tiny_llama", source="folder", id=f"{source}/"), target, seed=0)
    assert load_model(target, "float32").num_parameters() > 1000


def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.id: .*is not a Hugging Face model folder"):
        make_base(model_of("tiny_llama", source="folder", id=str(tmp_path)), tmp_path, seed=0)


def test_the_default_model_is_converted_and_its_prompts_are_those_of_its_chat_template(
    tmp_path: Path,
) -> None:
    make_base(model_of("smollm2_135m"), tmp_path, seed=0)
    assert read_base(tmp_path).sha256.keys() >= {
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    }
    tokenizer = load_tokenizer(tmp_path)
    encoder = PromptEncoder(tokenizer, 256, {})
    texts = [
        "Profits rose 12 pct.",
        'He said: "no"',
        "Two  spaces, a line\nbreak and {braces}",
        "naïve 文本 🙂",
        "#tag @name!",
    ]
    rows = encoder.encode(
        "Classify it.", "Answer.", "en", [Example(text, "earn") for text in texts], answers=True
    )
    for text, row in zip(texts, rows, strict=True):
        turn = {"role": "user", "content": f"Classify it.\n\nText:\n{text}\n\nAnswer."}
        stock = tokenizer.apply_chat_template(
            [turn], add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        assert row.prompt == stock
        assert row.answer == [*tokenizer("earn")["input_ids"], tokenizer.convert_tokens_to_ids("<|im_end|>")]


CONVERSION = """
import os, sys, time
from pathlib import Path
import yaml
from sapo.models import make
from sapo.config import Model

def write(model, wheel, folder):
    (folder / "config.json").write_text("half")
    if sys.argv[2] == "dies":
        os._exit(9)
    print("converted", flush=True)
    time.sleep(0.3)
    (folder / "config.json").write_text("whole")

make._write_converted = write  # the real one takes half a minute; it is not what is tested
target = Path(sys.argv[1])
target.mkdir()
make._convert_gguf(Model.model_validate(yaml.safe_load(Path(sys.argv[3]).read_text())), target)
"""


def test_a_conversion_that_was_killed_is_made_again_and_two_at_once_make_one(tmp_path: Path) -> None:
    environment = os.environ | {
        "SAPO_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(REPOSITORY / "src"),
    }

    def convert(target: str, way: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-c",
            CONVERSION,
            str(tmp_path / target),
            way,
            str(CONF / "smollm2_135m.yaml"),
        ]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    with convert("killed", "dies") as killed:
        assert killed.wait() == 9
    assert not list((tmp_path / "killed").iterdir())
    several = [convert(name, "lives") for name in ("a", "b", "c")]
    printed = "".join(process.communicate()[0] for process in several)
    assert printed.count("converted") == 1
    assert [(tmp_path / name / "config.json").read_text() for name in ("a", "b", "c")] == ["whole"] * 3
    [lock, kept] = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert kept.startswith("smollm2_135m-")
    assert lock == f".{kept}.lock"


def write_gguf(path: Path) -> None:
    """A llama of one layer with a vocabulary of three bytes, as llama.cpp's tools would write it."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|begin|>", "<|end|>", "a", "b", "ab"])
    writer.add_token_types([3, 3, 1, 1, 1])  # control tokens, then plain ones
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    draw = np.random.default_rng(0)
    shapes = {"token_embd": (5, 8), "output": (5, 8), "output_norm": (8,)}
    attention = {"norm": (8,), "q": (8, 8), "k": (4, 8), "v": (4, 8), "output": (8, 8)}
    shapes |= {f"blk.0.attn_{name}": shape for name, shape in attention.items()}
    shapes |= {
        "blk.0.attn_q": (8, 8),
        "blk.0.attn_k": (4, 8),
        "blk.0.attn_v": (4, 8),
        "blk.0.attn_output": (8, 8),
    }
    feed_forward = {"norm": (8,), "gate": (16, 8), "up": (16, 8), "down": (8, 16)}
    shapes |= {f"blk.0.ffn_{name}": shape for name, shape in feed_forward.items()}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_transformers_reads_a_gguf_through_what_is_remembered(tmp_path: Path) -> None:
    """Fails when the library takes its reader or its table of names from elsewhere: nothing is saved then."""
    write_gguf(tmp_path / "model.gguf")
    before = gguf.GGUFReader, gguf.get_tensor_name_map
    with _gguf_read_once():
        named = {"pretrained_model_name_or_path": tmp_path, "gguf_file": "model.gguf"}
        model = AutoModelForCausalLM.from_pretrained(**named, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**named)
        reader, names = gguf.GGUFReader.cache_info(), gguf.get_tensor_name_map.cache_info()
    assert (reader.misses, names.misses) == (1, 1)
    assert reader.hits >= 2  # configuration, weights and tokenizer each ask for it
    assert names.hits >= 2  # every module does
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before
    assert model.config.hidden_size == 8
    assert tokenizer("ab")["input_ids"][-1] == 4
