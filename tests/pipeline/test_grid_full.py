"""The grid where something is full: a disk, which stops new units alone; the object store of Ray."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from grids import at_work, small_cell, small_pipeline
from laboratory import REPOSITORY, run
from sapo.grid import driver, repository
from sapo.grid.cached import Cache
from sapo.grid.cluster import OBJECTS, Needs, cluster
from sapo.grid.driver import Driver, Settings, State, left_out
from sapo.grid.estimates import Durations
from sapo.grid.kept import Kept
from sapo.grid.lifeline import Heart
from sapo.grid.pipeline import Sources, stages
from sapo.grid.plan import Plan, plan

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-grid.txt")
pytestmark = pytest.mark.long
# Holds more than the store takes, all of it in use
FILL = f"""import sys, time, numpy, ray
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
held = [ray.put(numpy.zeros({OBJECTS} // 4, dtype=numpy.uint8)) for _ in range(6)]
in_use = [ray.get(one) for one in held[-2:]]
print("full", flush=True)
time.sleep(600)
"""
CELLS = [small_cell(f"seed{seed}", seed=seed) for seed in (1, 2, 3)]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(small_pipeline(tmp_path / "lab"))
    return tmp_path / "lab"


def drive(
    lab: Path, folder: Path, address: str | None = None, tell: Callable[[State], None] = lambda state: None
) -> tuple[Plan, State]:
    """Run the cells that are not done before, with clones and logs in this folder; the plan and its end."""
    origin = repository.origin(allow_dirty=False)
    made = plan({cell.name: stages(cell, Sources(origin.head)) for cell in CELLS}, CELLS, lambda stage: False)
    cache = Cache(Kept(folder / "kept"))
    cache.folder.mkdir(parents=True, exist_ok=True)
    state = State(done=repository.done_before(CELLS, origin))
    for name, unit in made.units.items():
        if not unit.final and all(cache.entry(made.stages[key], made.stages) for key in unit.keys):
            state.done.add(name)
    heart = Heart(folder)
    settings = Settings(
        lab, folder, cache.folder, origin, "dvc.yaml", heart.path, cpus=1, gpus=0, keep=False, wait=60
    )
    with heart, cluster(address, Needs(1, 0), REPOSITORY / "src") as ray:
        ray.wait_for_place(60)
        Driver(made, settings, Durations(folder), state).run(ray, tell)
    return made, state


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for a unit."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={2 * driver.RESERVE}"
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_stops_new_cells_and_not_those_that_run(lab: Path, small_disk: Path) -> None:
    filler = small_disk / "filler"

    def fill(state: State) -> None:
        if "seed1" in state.running and not filler.exists():
            filler.write_bytes(b"\0" * (driver.RESERVE + 2**20))

    made, state = drive(lab, small_disk / "grid", tell=fill)
    assert f"{small_disk}/grid: 0.2 GB free, 0.2 GB wanted for seed" in state.stopped
    assert not state.failed
    begun = state.done & made.cells.keys()
    assert "seed1" in begun
    missing = left_out(made, state)
    assert missing.keys() == made.cells.keys() - begun
    assert missing
    assert set(run(lab, "dvc", "exp", "list", "--name-only").split()) == begun

    filler.unlink()
    made, state = drive(lab, small_disk / "grid")
    assert (state.stopped, state.failed, left_out(made, state)) == ("", {}, {})
    assert {name for name, _ in state.ran} == missing.keys()
    assert set(run(lab, "dvc", "exp", "list", "--name-only").split()) == set(made.cells)
    assert at_work(small_disk) == []


def test_without_a_byte_left_the_driver_goes_on_and_so_does_the_next(lab: Path, small_disk: Path) -> None:
    """The clones' disk, not the cache's: what runs there may fail."""
    filler = small_disk / "filler"

    def fill(state: State) -> None:
        if "seed1" in state.running and not filler.exists():
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(2**20)):
                    pass

    made, state = drive(lab, small_disk / "grid", tell=fill)
    assert "No space left" in state.stopped or "GB free" in state.stopped
    assert left_out(made, state) or state.failed
    finished = set(run(lab, "dvc", "exp", "list", "--name-only").split())
    assert finished == state.done & made.cells.keys()

    filler.unlink()
    made, state = drive(lab, small_disk / "grid")
    assert (state.stopped, state.failed, left_out(made, state)) == ("", {}, {})
    assert set(run(lab, "dvc", "exp", "list", "--name-only").split()) == set(made.cells)


def test_a_full_object_store_stops_nothing(lab: Path, tmp_path: Path) -> None:
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": OBJECTS})
    filler = subprocess.Popen([sys.executable, "-c", FILL, nodes.address], stdout=subprocess.PIPE, text=True)
    try:
        assert filler.stdout
        assert filler.stdout.readline() == "full\n"
        made, state = drive(lab, tmp_path / "grid", nodes.address)
        assert (state.failed, left_out(made, state)) == ({}, {})
        assert set(run(lab, "dvc", "exp", "list", "--name-only").split()) == set(made.cells)
    finally:
        filler.kill()
        filler.wait()
        ray.shutdown()
        nodes.shutdown()
