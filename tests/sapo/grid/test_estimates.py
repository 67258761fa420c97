"""Estimates come from what was measured: the same work, else the same stage, else its kind."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from grids import cell, pair, stages
from sapo.grid.driver import State, left_out
from sapo.grid.estimates import START, Durations, Sizes
from sapo.grid.kept import write_lock
from sapo.grid.plan import Look, plan
from sapo.grid.progress import Progress, as_time
from sapo.grid.report import dry, expected, listed, summary, wanted_units
from sapo.grid.work import Outcome


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_durations_are_kept_by_work_by_name_and_by_kind(tmp_path: Path) -> None:
    known = stages({"train@a/1": [], "train@a/2": [], "train@b": [], "report": []})
    durations = Durations(tmp_path)
    assert durations.of(known["train@b"]) is None
    durations.add(known["train@a/1"], 10.0)
    durations.add(known["train@a/2"], 30.0)
    durations.write()
    again = Durations(tmp_path)
    assert again.of(known["train@a/1"]) == 10.0
    assert again.of(known["train@b"]) == 30.0  # the mean of its kind
    assert again.of(known["report"]) is None


def test_sizes_are_those_of_the_lock_file() -> None:
    entry = {"outs": [{"path": "models/a", "size": 100}, {"path": "plots/a", "size": 5}]}
    write_lock(Path("dvc.lock"), {"schema": "2.0", "stages": {"train@a": entry}})
    sizes = Sizes(("dvc.yaml",))
    known = stages({"train@a": [], "train@other": [], "report": []})
    assert sizes.cache(known) == 105 + 105
    assert sizes.clone({"train@a": known["train@a"]}) == 105


def test_dry_sets_apart_what_is_in_the_cache_and_what_is_done(tmp_path: Path) -> None:
    made = pair("a", "b", "c")
    durations = Durations(tmp_path)
    for key in ("train/a", "first"):
        durations.add(made.stages[key], 60.0)
    lines = dry(Look(made, {"data", "train/b"}), {"c"}, durations, Sizes(("dvc.yaml",)), 2)
    text = "\n".join(lines)
    assert "shared-data   in the cache data" in text
    assert "shared-first  run first; after shared-data" in text
    assert "a             run train report" in text
    assert "b             run report; in the cache train" in text
    assert "c             is done already" in text
    assert (
        "cells: 3, 1 done already; stages: 4 to run, 1 in the cache; each cell alone would be 12 in all"
        in text
    )
    assert "never measured here, and not counted: report" in text
    assert f"about {as_time(2 * START + 120)}, 2 at a time" in text


def test_only_what_is_missing_is_wanted() -> None:
    made = pair("a", "b", "c")
    assert wanted_units(Look(made, set()), {"a", "b"}) == ["shared-data", "c"]
    assert wanted_units(Look(made, {"data"}), {"a", "b"}) == ["c"]
    assert wanted_units(Look(made, set()), {"a", "b", "c"}) == []


def test_the_summary_names_what_failed_why_and_what_waits_for_it(tmp_path: Path) -> None:
    made = pair("a", "b", "c")
    failed = {
        "shared-first": Outcome({"first": 3.0}, error="error: no rows", tail=["line one", "error: no rows"])
    }
    state = State(done={"shared-data", "c"}, failed=failed, ran=[("shared-data", "data"), ("c", "train")])
    assert left_out(made, state) == {"a": "shared-first", "b": "shared-first"}
    text = "\n".join(summary(made, state, set(), tmp_path, 100.0))
    assert "shared-first failed: error: no rows\n    line one\n" in text
    assert f"the whole log: {tmp_path}/logs/shared-first.log" in text
    assert "a did not run: it waits for shared-first" in text
    assert "1 of 3 cells finished in 2 min, 0 were done before, 2 missing; stages run: 2" in text


def test_what_waits_is_found_in_a_long_chain() -> None:
    names = [f"c{n}" for n in range(40)]  # each has one stage more of a chain than the one before
    chain = [f"s{n}" for n in range(len(names))]
    needs = {key: chain[max(n - 1, 0) : n] for n, key in enumerate(chain)}
    of_cell = {name: stages({key: needs[key] for key in chain[: n + 1]}) for n, name in enumerate(names)}
    made = plan(of_cell, [cell(name) for name in names], lambda stage: False)
    assert left_out(made, State(stopped="no room")) == dict.fromkeys(names, "")
    first = next(name for name, unit in made.units.items() if unit.keys[:1] == ("s0",))
    failed = State(failed={first: Outcome(error="error: no rows")})
    assert left_out(made, failed) == dict.fromkeys(names, first)


def test_progress_tells_the_stage_under_way_once_and_the_time_to_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan({"a": stages({"train": []})}, [cell("a")], lambda stage: False)
    progress = Progress(made, tmp_path, lambda: {"a": 100.0}, 1)
    state = State(running={"a": 0.0}, held="/disk: 1.0 GB free")
    progress.tell(state)
    state.held = ""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/a.log").write_text("--- now\nRunning stage 'train@x':\n> python\n")
    progress.tell(state)
    progress.tell(state)
    state.running.clear()
    state.done.add("a")
    state.seconds["a"] = 12.3
    progress.tell(state)
    assert capsys.readouterr().out.splitlines() == [
        *("waits: /disk: 1.0 GB free", "a: starts"),
        *("a: train@x", "a: finished in 12 s; 1 of 1 cells, about 0 s to go"),
    ]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(40, "40 s"), (600, "10 min"), (3 * 3600 + 300, "3 h 05 min"), (52 * 3600, "2 d 4 h")],
)
def test_times_as_people_say_them(seconds: float, told: str) -> None:
    assert as_time(seconds) == told


def test_stages_of_a_kind_are_listed_together() -> None:
    assert listed(["prepare", "train@a", "train@b", "report"]) == "prepare train@a,b report"


def test_a_unit_lasts_as_long_as_the_stages_that_have_to_run(tmp_path: Path) -> None:
    made = pair("a", "b", "c")
    durations = Durations(tmp_path)
    durations.add(made.stages["train/a"], 60.0)
    assert expected(Look(made, set()), durations)["a"] == START + 60.0
    assert expected(Look(made, {"train/a"}), durations)["a"] == START


def test_the_live_table_shows_errors_as_they_are(tmp_path: Path) -> None:
    made = pair("a", "b")
    state = State(failed={"a": Outcome(error="error: no [/INST] in the [default] template")})
    known = dict.fromkeys(made.units, 1.0)
    progress = Progress(made, tmp_path, lambda: known, 2)
    console = Console(width=200, record=True, file=StringIO())
    console.print(progress.table(state))
    assert "failed: error: no [/INST] in the [default] template" in console.export_text()


def test_the_time_to_go_follows_what_is_learnt_on_the_way(tmp_path: Path) -> None:
    made = pair("a", "b")
    known = dict.fromkeys(made.units, 1.0)
    progress = Progress(made, tmp_path, lambda: dict(known), 1)
    state = State()
    assert progress.to_go(state) == len(made.units)
    known["b"] = 100.0
    state.done.add("a")
    state.seconds["a"] = 100.0
    assert progress.to_go(state) == 100 + len(made.units) - 2
