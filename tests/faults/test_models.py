"""Faults of a model that lies in a folder."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import PeftModel
from transformers import PreTrainedModel

from faulty import tell_apart, works
from laboratory import REPOSITORY
from sapo.artifacts.task import Example, Task, load_task, save_task
from sapo.config import Model
from sapo.models.load import load_model
from sapo.models.make import make_base
from sapo.runtime.outputs import output_folder
from tiny import SUFFIX, logits


def test_fault_19_a_path_says_nothing_about_what_it_holds(tmp_path: Path, tiny_base: Path) -> None:
    source = tmp_path / "my_adapter" / "model"
    shutil.copytree(tiny_base, source)
    about = yaml.safe_load((REPOSITORY / "conf/model/tiny_llama.yaml").read_text()) | {"source": "folder"}

    def load(path: str) -> PreTrainedModel:
        with output_folder(tmp_path / "base") as folder:
            make_base(Model.model_validate(about | {"id": path}), folder, 0)
        return load_model(tmp_path / "base", "float32")

    def load_by_name(path: str) -> Any:
        return PeftModel.from_pretrained(load(path), path) if "adapter" in path else load(path)

    def check(loading: Callable[[str], Any]) -> None:
        for path in (str(source), f"{source}/"):
            assert works(lambda name=path: loading(name)), path  # type: ignore[misc]
            assert torch.equal(logits(loading(path)), logits(load_model(tiny_base, "float32")))

    tell_apart(check, load, load_by_name)
    row = [Example("text", "yes")]
    save_task(tmp_path / "task1", Task("task1", "Judge it.", SUFFIX, [], "en", None, {}, row, row))

    def check_name(name_of: Callable[[str], str]) -> None:
        assert name_of(f"{tmp_path}/task1") == name_of(f"{tmp_path}/task1/") == "task1"

    tell_apart(check_name, lambda path: load_task(path).name, lambda path: path.split("/")[-1])
