"""Weights, adapters and checkpoints that others wrote are data: nothing in them is executed."""

import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from transformers import PreTrainedModel

from sapo.artifacts.base_model import read_base
from sapo.artifacts.lineage import WEIGHTS
from sapo.artifacts.task import Example
from sapo.config import Lora, Model, Train
from sapo.lora.stack import load_adapter, save_adapter
from sapo.models.load import load_model, load_tokenizer
from sapo.models.make import make_base
from sapo.prompts.encoder import PromptEncoder
from sapo.runtime.errors import DataError
from sapo.runtime.outputs import write_json
from sapo.training.checkpoints import HISTORY, STATE, WHOLE, Checkpoints
from sapo.training.loop import train_task
from sapo.training.new_lora import new_lora
from tiny import lineage_of

REPOSITORY = Path(__file__).parents[3]


class Payload:
    """Unpickled, it writes a file: what an attacker would put into a pickle."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def planted(tmp_path: Path) -> Callable[[Path], None]:
    """Writes a pickle that works."""
    marker = tmp_path / "executed"
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()
    marker.unlink()
    return lambda path: path.write_bytes(pickle.dumps(Payload(marker))) and None


def prepared(folder: Path, target: Path) -> Any:
    """The model and tokenizer of a folder that somebody gave us, as the stages make and load them."""
    about = yaml.safe_load((REPOSITORY / "conf/model/tiny_llama.yaml").read_text()) | {
        "source": "folder",
        "id": str(folder),
    }
    target.mkdir()
    make_base(Model.model_validate(about), target, seed=0)
    return PromptEncoder(load_tokenizer(target), 400, {}), load_model(target, "float32")


def only_pickle(folder: Path, plant: Callable[[Path], None]) -> None:
    (folder / "model.safetensors").unlink()
    plant(folder / "pytorch_model.bin")


def pickle_beside_other_weights(folder: Path, plant: Callable[[Path], None]) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    plant(folder / "pytorch_model.bin")


def index_that_names_a_pickle(folder: Path, plant: Callable[[Path], None]) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    plant(folder / "weights.bin")
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {}, "weight_map": {"lm_head.weight": "weights.bin"}},
    )


def index_that_leaves_the_folder(folder: Path, _: Callable[[Path], None]) -> None:
    shutil.copytree(folder, folder.parent / "other")
    write_json(
        folder / "model.safetensors.index.json",
        {"weight_map": {"lm_head.weight": "../other/model.safetensors"}},
    )


def adapter_in_the_folder(folder: Path, plant: Callable[[Path], None]) -> None:
    about = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 2,
        "target_modules": ["q_proj"],
        "task_type": "CAUSAL_LM",
    }
    write_json(folder / "adapter_config.json", about | {"base_model_name_or_path": str(folder)})
    plant(folder / "adapter_model.bin")


def code_of_an_unknown_model(folder: Path, plant: Callable[[Path], None]) -> None:
    config = json.loads((folder / "config.json").read_text())
    code_of_a_known_model(folder, plant)
    own = {
        "model_type": "own",
        "architectures": ["Own"],
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"},
    }
    write_json(folder / "config.json", config | own)


def code_of_a_known_model(folder: Path, _: Callable[[Path], None]) -> None:
    marker = folder.parent / "executed"
    (folder / "own.py").write_text(
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\nclass Own: pass\n"
    )
    auto = {"config.json": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    auto["tokenizer_config.json"] = {"AutoTokenizer": ["own.Own", "own.Own"]}  # type: ignore[dict-item]
    for name, classes in auto.items():
        write_json(folder / name, json.loads((folder / name).read_text()) | {"auto_map": classes})


def template_that_reaches_for_python(folder: Path, _: Callable[[Path], None]) -> None:
    marker = folder.parent / "executed"
    attack = "{{ cycler.__init__.__globals__.os.system('touch MARKER') }}{{ messages[0].content }}"
    (folder / "chat_template.jinja").write_text(attack.replace("MARKER", str(marker)))
    jinja2.Environment().from_string((folder / "chat_template.jinja").read_text()).render(
        messages=[{"content": "x"}]
    )
    marker.unlink()  # so it works, without a sandbox


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (only_pickle, "not a Hugging Face model folder with safetensors"),
        (pickle_beside_other_weights, r"no file named model\.safetensors"),
        (index_that_names_a_pickle, r"names weights\.bin: weights are read from safetensors files"),
        (
            index_that_leaves_the_folder,
            r"names \.\./other/model\.safetensors: weights are read from safetensors files beside it",
        ),
        (adapter_in_the_folder, r"No such file or directory: .*adapter_model\.safetensors"),
        (code_of_a_known_model, None),  # its code is passed over, the library's own is used
        (code_of_an_unknown_model, "custom code"),
        (template_that_reaches_for_python, "unsafe"),
    ],
)
def test_a_model_folder_is_data(
    tiny_base: Path,
    tmp_path: Path,
    planted: Callable[[Path], None],
    change: Callable[..., None],
    refusal: str | None,
) -> None:
    folder = tmp_path / "given"
    shutil.copytree(tiny_base, folder)
    change(folder, planted)
    refuses = pytest.raises(Exception, match=refusal)  # some are the library's own errors
    with refuses if refusal else nullcontext():
        prepared(folder, tmp_path / "base")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["adapter_model.bin", WEIGHTS])
def test_an_adapter_is_read_from_safetensors_alone(
    tiny_base: Path, tmp_path: Path, planted: Callable[[Path], None], lora: Lora, name: str
) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_adapter(folder, {}, ["q_proj"], lineage_of(tiny_base, lora), "card")
    (folder / WEIGHTS).unlink()
    planted(folder / name)
    with pytest.raises(DataError, match=r"adapter_model\.safetensors cannot be read"):
        load_adapter(folder, read_base(tiny_base).fingerprint)
    assert not (tmp_path / "executed").exists()


READ = {WHOLE, STATE, HISTORY}
BESIDE = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "adapter_model.bin"]


def test_a_checkpoint_that_holds_a_pickle_does_not_run_it(
    tmp_path: Path,
    planted: Callable[[Path], None],
    new_model: Callable[[], PreTrainedModel],
    encoder: PromptEncoder,
    examples: list[Example],
    lora: Lora,
    train_settings: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = encoder.encode("Judge it.", "Answer:", "en", examples[:4], answers=True)
    settings = train_settings.model_copy(update={"batch_size": 1})

    def train(folder: Path) -> int:
        """How many steps the history has."""
        adapted = new_lora(new_model(), lora, ["q_proj"], seed=5)
        done = train_task(adapted, rows, checkpoints=folder, train=settings, seed=5, pad=0)
        return len(done.history)

    def save_and_die(self: Checkpoints, history: list[Any]) -> None:
        save(self, history)
        raise KeyboardInterrupt

    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed")
    monkeypatch.setattr(Checkpoints, "save", save)
    [checkpoint] = (tmp_path / "killed").iterdir()
    assert {path.name for path in checkpoint.iterdir()} == READ

    for name in [*sorted(READ - {WHOLE}), *BESIDE, WHOLE]:
        folder = tmp_path / name
        shutil.copytree(tmp_path / "killed", folder)
        planted(folder / checkpoint.name / name)
        if name in READ - {WHOLE}:  # what is read there is no pickle
            with pytest.raises(DataError, match="is damaged"):
                train(folder)
        else:
            assert train(folder) == 8
        assert not (tmp_path / "executed").exists(), name
