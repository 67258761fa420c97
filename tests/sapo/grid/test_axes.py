"""Axes become cells with settings as `dvc exp run` composes them; what no setting knows is one line."""

from pathlib import Path

import pytest
from dvc.utils.hydra import compose_and_dump

from laboratory import REPOSITORY
from sapo.grid.axes import MOST_OF_A_NAME, cells, names, points
from sapo.runtime.errors import DataError


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def test_every_combination_is_a_point_and_repeated_ones_are_one() -> None:
    assert points(["method=olora,replay", "seed=1,2", "train.epochs=3"]) == [
        ("method=olora", "seed=1", "train.epochs=3"),
        ("method=olora", "seed=2", "train.epochs=3"),
        ("method=replay", "seed=1", "train.epochs=3"),
        ("method=replay", "seed=2", "train.epochs=3"),
    ]
    assert points(["seed=1,1"]) == [("seed=1",)]
    assert points(["train.learning_rate=0.1", "model.target_modules=[q_proj,v_proj]"]) == [
        ("train.learning_rate=0.1", "model.target_modules=[q_proj,v_proj]")
    ]


def test_a_cell_is_what_dvc_would_compose(tmp_path: Path) -> None:
    overrides = ["method=olora", "seed=7", "sequence=ni_seq_c1"]
    (cell,) = cells(overrides)
    compose_and_dump(str(tmp_path / "params.yaml"), str(REPOSITORY / "conf"), None, "config", "", overrides)
    assert cell.text == (tmp_path / "params.yaml").read_text(encoding="utf-8")
    assert (cell.settings["method"]["name"], cell.settings["seed"]) == ("olora", 7)


def test_names_tell_what_varies() -> None:
    assert names(points(["method=olora,replay", "seed=1,2", "recipe=quick"])) == [
        *("olora-seed1", "olora-seed2", "replay-seed1", "replay-seed2"),
    ]
    assert names(points(["train.learning_rate=0.1,1e-3"]), "rates") == [
        *("rates-learning_rate0.1", "rates-learning_rate0.001"),
    ]
    assert names(points(["method=olora", "seed=2"])) == ["olora"]
    assert names(points(["seed=2"])) == ["seed2"]
    assert names([()]) == ["grid"]


def test_names_of_the_study_are_never_those_of_plain_cells() -> None:
    assert [cell.name for cell in cells(["seed=1,2"], "mine", study=True)] == [
        *("study-mine-seed1", "study-mine-seed2"),
    ]
    assert [cell.name for cell in cells([], study=True)] == ["study"]
    with pytest.raises(DataError, match="names that begin with 'study' are for"):
        cells(["seed=1"], "study-mine")


@pytest.mark.parametrize("prefix", ["team/x", "my runs", "../../src", "a..b", "-x", "x.lock", "@{1}"])
def test_what_neither_git_nor_a_folder_can_be_called_is_refused(prefix: str) -> None:
    with pytest.raises(DataError, match="is no name for an experiment: give --name letters"):
        cells([], prefix)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["nosuch=1"], "-S nosuch=1: Could not override 'nosuch'"),
        (
            ["method=none_such"],
            "Could not find 'method/none_such' Available options in 'method': fixed joint",
        ),
        (["seed=one"], "seed: Input should be a valid integer"),
        (["seed=1", "seed=2"], "-S seed is given twice: write its values in one"),
        (["=="], "Error parsing override '=='"),
        (["train.epochs=glob(*)"], "Glob override"),
        (["train.schedule=linear,nosuch"], "cell schedulenosuch cannot be used"),
        ([f"paraphrase.path={'a' * 99},{'b' * 99}"], "is too long a name for an experiment: give --name"),
        (["paraphrase.path=a/b,a_b"], "two cells would be called patha_b"),
    ],
)
def test_what_cannot_be_used_is_one_line(overrides: list[str], told: str) -> None:
    with pytest.raises(DataError, match=r".") as raised:
        cells(overrides)
    assert told in str(raised.value)
    assert len(str(raised.value)) < 600 + MOST_OF_A_NAME
