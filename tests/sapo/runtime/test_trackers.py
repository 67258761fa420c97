"""Trackers get every step of a training once, and a training does not depend on them."""

from pathlib import Path
from typing import Any

import pytest
from accelerate.tracking import GeneralTracker

from canaries import KEY
from curves import tensorboard_curves
from sapo.artifacts.lineage import Step
from sapo.runtime.errors import DataError
from sapo.runtime.trackers import REPORTED, START, Training, check_installed, check_keys, tracking

TRAINING = Training("olora", "xsum", "0123456789abcdef", {"task": "xsum", "method": "olora"})
RUN = Path(".tracking/tensorboard/olora/xsum-0123456789abcdef")
HISTORY = [
    Step(step=n, loss=1 / n, grad_norm=n / 10, learning_rate=0.1 / n, epoch=n / 6) for n in range(1, 7)
]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def report_steps(first: int, last: int, *names: str) -> None:
    """As a training does that begins after step `first` and is ended after step `last`."""
    with tracking(names, TRAINING) as report:
        for step in range(first, last + 1):
            report(HISTORY[:step])


@pytest.mark.parametrize(("ended", "resumed"), [(3, 2), (3, 3), (1, 0), (6, 6), (6, 0)])
def test_a_training_that_goes_on_is_the_same_run_without_a_step_twice(ended: int, resumed: int) -> None:
    report_steps(0, ended, "tensorboard")
    report_steps(resumed, 6, "tensorboard")
    curves = tensorboard_curves(RUN)
    assert set(curves) == {"train/loss", "train/learning_rate", "train/grad_norm"}
    for name, points in curves.items():
        expected = [(step.step, getattr(step, name.partition("/")[2])) for step in HISTORY]
        assert points == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected], name
    assert {path.name for path in Path(".tracking").rglob("*") if path.is_dir()} == {
        "tensorboard",
        "olora",
        "xsum-0123456789abcdef",
    }


def test_a_tracker_that_comes_later_gets_the_steps_before() -> None:
    report_steps(4, 6, "tensorboard")
    assert [step for step, _ in tensorboard_curves(RUN)["train/loss"]] == [1, 2, 3, 4, 5, 6]


def test_without_trackers_and_beside_the_main_process_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report_steps(0, 6)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    report_steps(0, 6, "tensorboard")
    assert not list(Path().iterdir())


class Failing(GeneralTracker):
    """One whose server goes away after two steps."""

    name = "failing"
    requires_logging_directory = False

    def __init__(self, fails_at: int) -> None:
        super().__init__()
        self.fails_at, self.steps = fails_at, []

    @property
    def tracker(self) -> Any:
        return self.steps

    def log(self, values: dict, step: int | None = None, **kwargs: Any) -> None:
        self.steps.append(step)
        if step == self.fails_at:
            raise ConnectionError(f"no answer\nto {KEY}")

    def finish(self) -> None:
        if self.fails_at == 0:
            raise ConnectionError("no answer")


@pytest.mark.parametrize(("fails_at", "asked"), [(3, [1, 2, 3]), (0, [1, 2, 3, 4, 5, 6])])
def test_a_tracker_that_fails_is_left_alone_and_the_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails_at: int, asked: list[int]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    failing = Failing(fails_at)
    monkeypatch.setitem(START, "failing", lambda folder, training, run: failing)
    report_steps(0, 6, "failing", "tensorboard")
    assert failing.steps == asked
    assert len(tensorboard_curves(RUN)["train/loss"]) == 6
    [record] = caplog.records
    assert record.getMessage().startswith(
        "tracking: failing fails, and gets no more steps: ConnectionError: no answer"
    )
    assert KEY not in record.getMessage()
    assert record.getMessage().isprintable()


def test_a_tracker_that_does_not_start_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setitem(START, "failing", lambda folder, training, run: Failing(1).log({KEY: 1}, step=1))
    with pytest.raises(
        DataError, match=r"^tracking\.report_to: failing does not start: ConnectionError: no answer"
    ):
        report_steps(0, 6, "tensorboard", "failing")
    RUN.joinpath(REPORTED).write_text("{")
    with pytest.raises(DataError, match=rf"{REPORTED} is not valid JSON"):
        report_steps(0, 6, "tensorboard")


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed(["tensorboard"])
    for name in ("a_tracker", "a_folder"):
        (tmp_path / "a_folder").mkdir(exist_ok=True)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(DataError, match=rf"^tracking\.report_to: {name} is not installed: pip install"):
            check_installed(["tensorboard", name])


def test_wandb_needs_its_key_unless_it_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    check_keys(["tensorboard", "mlflow", "dvclive"])
    with pytest.raises(DataError, match="wandb has no key: set WANDB_API_KEY, or WANDB_MODE=offline"):
        check_keys(["wandb"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_keys(["wandb"])
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    check_keys(["wandb"])
