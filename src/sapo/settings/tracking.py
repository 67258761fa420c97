"""Section `tracking`: where the curves of a training are shown while it runs. No result depends on it."""

from typing import Literal

from pydantic import field_validator

from sapo.settings.section import Section

Tracker = Literal["tensorboard", "wandb", "mlflow", "dvclive"]


class Tracking(Section):
    report_to: list[Tracker]  # each has to be installed; empty: nowhere

    @field_validator("report_to")
    @classmethod
    def _each_once(cls, names: list[Tracker]) -> list[Tracker]:
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} is named twice")
        return names
