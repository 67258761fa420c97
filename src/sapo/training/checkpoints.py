"""Checkpoints of one task's training, in safetensors and JSON: a killed training goes on to the same bits.

A checkpoint is a folder checkpoint-STEP, and whole when it holds the file WHOLE, which is written last.
"""

import shutil
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sapo.artifacts.lineage import Step
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json
from sapo.runtime.outputs import told_where, write_json, write_text
from sapo.runtime.processes import is_main

WHOLE = "whole"  # without it, the process was killed while writing
STATE, HISTORY = "state.safetensors", "history.json"


class Checkpoints:
    """The checkpoints in a folder, of which the last whole one is kept."""

    def __init__(
        self, folder: Path, parameters: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        self.folder, self.parameters, self.optimizer = folder, parameters, optimizer

    def save(self, history: list[Step]) -> None:
        """Write one after the last step of `history`, by the main process; then the older one goes."""
        if not is_main():
            return
        place = self.folder / f"checkpoint-{len(history)}"
        with told_where(self.folder):
            place.mkdir(parents=True, exist_ok=True)
            moments = {
                f"{index} {name}": tensor
                for index, state in self.optimizer.state_dict()["state"].items()
                for name, tensor in state.items()
            }
            weights = {f"weight {name}": parameter.detach() for name, parameter in self.parameters.items()}
            save_file(
                {key: tensor.contiguous() for key, tensor in (weights | moments).items()}, place / STATE
            )
            write_json(place / HISTORY, [step.model_dump() for step in history])
            write_text(place / WHOLE, "")
            last_checkpoint(self.folder)

    def load(self) -> list[Step]:
        """Put everything back as the last whole checkpoint has it, and give its history; empty without one.

        Raises DataError that names a damaged checkpoint.
        """
        place = last_checkpoint(self.folder)
        if place is None:
            return []
        try:
            return self._restore(place)
        except (SafetensorError, KeyError, RuntimeError, ValueError, OSError, DataError) as error:
            raise DataError(f"{place} is damaged ({error!r:.200}): delete it and run again") from error

    def _restore(self, place: Path) -> list[Step]:
        tensors = load_file(place / STATE)
        for name, parameter in self.parameters.items():
            parameter.data.copy_(tensors.pop(f"weight {name}"))
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            index, _, name = key.partition(" ")
            state.setdefault(int(index), {})[name] = tensor
        self.optimizer.load_state_dict(
            {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        return TypeAdapter(list[Step]).validate_python(read_json(place / HISTORY))


def last_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that is whole, if any. The main process removes what else is there."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in found if (path / WHOLE).is_file()]
    last = whole[-1] if whole else None
    if is_main():
        for path in found:
            if path != last:
                _remove(path)
    return last


def _remove(checkpoint: Path) -> None:
    (checkpoint / WHOLE).unlink(missing_ok=True)  # first: what a kill leaves of it is then not whole
    shutil.rmtree(checkpoint, ignore_errors=True)


def forget_checkpoints(folder: Path) -> None:
    """Remove a task's checkpoints once its adapter is saved."""
    for checkpoint in folder.glob("checkpoint-*"):
        _remove(checkpoint)
    shutil.rmtree(folder, ignore_errors=True)
