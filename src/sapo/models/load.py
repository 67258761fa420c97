"""Loading the base model and its tokenizer from models/base, or from the folder or hub id it refers to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sapo.artifacts.base_model import ABOUT, ADAPTER, BASE_FOLDER, read_base
from sapo.lora.updated import add_update
from sapo.models.adapter import read_updates
from sapo.models.devices import device
from sapo.runtime.cache import remembered_sha256
from sapo.runtime.errors import ArtifactError, DataError
from sapo.runtime.imports import quick_imports
from sapo.runtime.outputs import STORAGE_ERRORS, storage_error

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What a model is read from: never a pickle, never code
SUFFIXES = (".json", ".safetensors", ".jinja", ".txt", ".model")
WANTED = [f"*{suffix}" for suffix in SUFFIXES]


def hashed_files(folder: Path) -> dict[str, str]:
    """The sha256 of each file that a model is read from, by name."""
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.name != ABOUT)
    return {path.name: remembered_sha256(path) for path in files}


def weights_folder(folder: Path = BASE_FOLDER) -> str:
    """The local folder that holds the weights: what stages load never comes over the network.

    Raises ArtifactError where it is gone or its files are not those that base.json records.
    """
    about = read_base(folder)
    if about.source == "hub":
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return snapshot_download(
                about.id, revision=about.revision, allow_patterns=WANTED, local_files_only=True
            )
        except LocalEntryNotFoundError:
            raise ArtifactError(
                f"{about.id} at {about.revision} is no longer in the Hugging Face cache", stage="base_model"
            ) from None
    if about.location and not Path(about.location).is_dir():
        raise ArtifactError(f"model.id: {about.location} is no longer there", stage="base_model")
    location = Path(about.location or folder)
    _check_recorded(location, "model", about.sha256, folder)
    return str(location)


def adapter_folder(folder: Path = BASE_FOLDER) -> Path | None:
    """The folder of the adapter that is part of the base model, if any.

    Raises ArtifactError where its files are not those that base.json records.
    """
    if (about := read_base(folder).adapter) is None:
        return None
    _check_recorded(folder / ADAPTER, "adapter", about.sha256, folder)
    return folder / ADAPTER


def _check_recorded(location: Path, what: str, recorded: dict[str, str], folder: Path) -> None:
    found = hashed_files(location) if location.is_dir() else {}
    if odd := sorted(name for name in recorded.keys() | found if recorded.get(name) != found.get(name)):
        raise ArtifactError(
            f"{location} is not the {what} that {folder / ABOUT} records: see {', '.join(odd):.200}",
            stage="base_model",
        )


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn whatever a library raises about a model's files into a DataError that names them.

    The libraries' errors have no common base class.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if storage_error(error) in STORAGE_ERRORS:
            raise  # a full disk says nothing of the model
        raise DataError(f"{what} cannot be used: {type(error).__name__}: {error!s:.400}") from error


def load_model(folder: Path, dtype: str, place: torch.device | None = None) -> "PreTrainedModel":
    """The base model of models/base/ with its adapter, if any, in `dtype`, in evaluation mode, at `place`.

    The default place is this process's accelerator, if any. Raises DataError for files that cannot be read or
    lack weights.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # the stage has its own
    location, adapter = weights_folder(folder), adapter_folder(folder)
    options: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False, "local_files_only": True}
    with quick_imports(), named(f"the model in {location}"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            location, dtype=getattr(torch, dtype), output_loading_info=True, **options
        )
    model: PreTrainedModel = loaded[0]
    report = loaded[1]
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random numbers
        raise ArtifactError(
            f"the weights in {location} lack {', '.join(missing):.200}: set model.id", stage="base_model"
        )
    model.to(place or device())  # type: ignore[arg-type]  # its stubs take a device for the class
    model.eval()
    if adapter:
        for name, (a, b) in read_updates(model, adapter).items():
            add_update(model, name, a, b)
    return model


def load_tokenizer(folder: Path = BASE_FOLDER) -> "PreTrainedTokenizerBase":
    """The tokenizer of models/base/. Raises DataError when it cannot be read or has no chat template."""
    from transformers import AutoTokenizer

    location = weights_folder(folder)
    with quick_imports(), named(f"the tokenizer in {location}"):
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False, local_files_only=True)
    if not tokenizer.chat_template:
        raise DataError(f"{location}: the tokenizer has no chat template; choose an instruction-tuned model")
    return tokenizer
