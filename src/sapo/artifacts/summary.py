"""The continual-learning metrics of a run with their intervals, and what was run on what.

metrics/details.json has all of them; metrics/cl.json, which DVC shows, the headline alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict

from sapo.analysis.answer_metrics import METRICS
from sapo.artifacts.run_record import AnswersRecord, RunName
from sapo.artifacts.schema import Artifact, Part
from sapo.artifacts.scores import Kind
from sapo.runtime.files import sha256_json
from sapo.runtime.outputs import write_json

DETAILS, HEADLINE = Path("metrics/details.json"), Path("metrics/cl.json")
HEADLINE_METRIC = next(iter(METRICS))
# Also the order of columns
HEADLINE_NAMES = ("AP", "BWT", "FWT", "forgetting", "new_task", "unseen", "unseen_change")
INTERVAL = "_interval"  # ends the name of a metric's intervals

# AP, BWT ... -> value in the metric's unit, or both ends of an interval (null where nothing can be said)
Numbers = dict[str, float] | dict[str, list[float | None]]


class Metrics(Part):
    """METRIC: its values; METRIC_interval: their intervals (see `metric_fields`)."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Numbers]


def metric_fields(values: Mapping[str, Numbers], intervals: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """The fields of metric -> AP, BWT ... -> value, and of their intervals."""
    return {**values, **{f"{metric}{INTERVAL}": ends for metric, ends in intervals.items()}}


class Summary(Artifact):
    """METRIC and METRIC_interval, under the chosen prompts, stand beside these fields.

    test_fingerprint: what all test rows, with the tasks' own prompts, are told apart by.
    """

    # 1: without ROUGE-1, log-likelihood and probes. 2: test_fingerprint told training rows apart too
    FORMAT: ClassVar[int] = 3
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Numbers]
    method: str
    model: str
    seed: int
    sequence: str
    original_prompt: Metrics
    test_rows: dict[str, int]
    test_fingerprint: str
    base_fingerprint: str
    dtype: str
    device: str
    versions: dict[str, str]

    @classmethod
    def of(
        cls, name: RunName, chosen: dict[str, Numbers], original: dict[str, Numbers], record: AnswersRecord
    ) -> "Summary":
        """chosen, original: `metric_fields` under either prompt. record: of the base model's answers."""
        return cls.model_validate(
            {
                **name.model_dump(),
                **chosen,
                "original_prompt": Metrics.model_validate(original),
                "test_rows": {task: about.rows for task, about in record.tasks.items()},
                "test_fingerprint": sha256_json(
                    {task: [about.test, about.prompt] for task, about in record.tasks.items()}
                ),
                "base_fingerprint": record.base,
                "dtype": record.settings.dtype,
                "device": record.device,
                "versions": record.versions,
            }
        )

    def values(self, metric: str, kind: Kind) -> dict[str, float]:
        """AP, BWT ... of a metric. Raises KeyError for one that the file does not have."""
        return {
            name: value for name, value in self._numbers(metric, kind).items() if isinstance(value, float)
        }

    def intervals(self, metric: str, kind: Kind) -> dict[str, list[float | None]]:
        """The ends of the intervals of `values`."""
        return {
            name: ends
            for name, ends in self._numbers(f"{metric}{INTERVAL}", kind).items()
            if isinstance(ends, list)
        }

    def _numbers(self, name: str, kind: Kind) -> Numbers:
        return (self if kind == "chosen" else self.original_prompt).__pydantic_extra__[name]

    def headline(self) -> dict[str, Any]:
        """The metrics that DVC lists side by side, to 0.01 percent: as few as fit a line."""
        values = self.values(HEADLINE_METRIC, "chosen")
        intervals = self.intervals(HEADLINE_METRIC, "chosen")
        names = [name for name in HEADLINE_NAMES if name in values]
        ends = {name: [end and round(end, 2) for end in intervals[name]] for name in names}
        return {name: round(values[name], 2) for name in names} | {"interval": ends}

    def write(self) -> None:
        write_json(DETAILS, self.content())
        write_json(HEADLINE, self.headline())
