"""What TensorBoard reads in a training's files."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def tensorboard_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every curve, as they stand in the files: nothing is drawn, nothing left out."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
