"""plots/train/TASK/: the training curves, a TSV file each, for DVC's plots."""

from collections.abc import Sequence
from pathlib import Path

from sapo.artifacts.lineage import Step
from sapo.runtime.outputs import output_folder, write_text

CURVES = ("loss", "grad_norm", "learning_rate")


def write_curves(task: str, history: Sequence[Step]) -> None:
    """Write each curve of a task's training over its steps."""
    with output_folder(Path("plots/train") / task) as folder:
        for name in CURVES:
            lines = [f"step\t{name}", *(f"{step.step}\t{getattr(step, name)!r}" for step in history)]
            write_text(folder / f"{name}.tsv", "\n".join(lines) + "\n")
