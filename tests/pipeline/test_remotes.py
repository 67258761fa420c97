"""DVC remotes on real servers: push, pull, experiments of colleagues; servers that die during a push."""

import hashlib
import random
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from laboratory import REPOSITORY, commit, copy_of, environment, experiment, read, run, stages_run
from servers import SERVERS, Server

KEPT = [
    "data/paraphrases",
    "data/predictions",
    "data/prompts",
    "metrics/scores",
    "models/reuters_r8",
    "models/xsum",
    "plots/train",
]
LONG = pytest.mark.long


@pytest.fixture(scope="module", params=["s3", "ssh"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = SERVERS[request.param](tmp_path_factory.mktemp(request.param) / "server")
    try:
        server.start()
        yield server
    finally:
        server.kill()


def share(server: Server, lab: Path, path: str) -> Path:
    """Give the repository this remote and a bare Git remote, `origin`; the latter's path."""
    server.add_to(lab, path)
    server.log_in(lab)
    hub = lab.parent / "hub.git"
    run(lab.parent, "git", "init", "-q", "--bare", "-b", "main", hub.name)
    run(lab, "git", "remote", "add", "origin", str(hub))
    return hub


def publish(lab: Path) -> None:
    commit(lab, "results")
    run(lab, "git", "push", "-q", "origin", "main")


def clone(server: Server, hub: Path, folder: Path) -> Path:
    run(hub.parent, "git", "clone", "-q", str(hub), str(folder))
    run(folder, "git", "config", "user.name", "colleague")
    run(folder, "git", "config", "user.email", "colleague@example.org")
    server.log_in(folder)
    return folder


def contents(folder: Path, *places: str) -> dict[str, str]:
    """The sha256 of every file under these places."""
    paths = [path for place in places for path in (folder / place).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)
    }


@pytest.fixture(scope="module")
def shared(
    server: Server, two_methods: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A repository and its `origin`: `olora` committed, the experiment `sapo` beside it, all pushed."""
    lab = copy_of(two_methods[0], tmp_path_factory.mktemp("shared") / "lab")
    hub = share(server, lab, "shared")
    publish(lab)
    run(lab, "dvc", "push", "--run-cache")
    back = experiment(lab, "method=lora_inc_sapo", options=("--name", "sapo"))
    assert not [stage for stage in stages_run(back) if stage.startswith("train@")]
    run(lab, "dvc", "exp", "push", "origin", "sapo")
    return lab, hub


@pytest.mark.parametrize("server", ["s3", pytest.param("ssh", marks=LONG)], indirect=True)
def test_a_colleague_pulls_results_and_experiments(
    server: Server, shared: tuple[Path, Path], tmp_path: Path
) -> None:
    lab, hub = shared
    colleague = clone(server, hub, tmp_path / "colleague")
    run(colleague, "dvc", "pull")
    assert read(colleague / "metrics/details.json")["method"] == "olora"
    pulled = contents(colleague, *KEPT)
    assert {place for place in KEPT if any(path.startswith(place) for path in pulled)} == set(KEPT)
    assert "in sync" in run(colleague, "dvc", "status", "-c")

    assert "sapo" in run(colleague, "dvc", "exp", "list", "origin")
    run(colleague, "dvc", "exp", "pull", "origin", "sapo")
    run(colleague, "dvc", "exp", "apply", "sapo")
    assert read(colleague / "metrics/cl.json") == read(lab / "metrics/cl.json")
    assert read(lab / "metrics/details.json")["method"] == "lora_inc_sapo"
    assert contents(colleague, *KEPT) == contents(lab, *KEPT) != pulled


@LONG
def test_a_colleague_has_another_methods_results_without_training(
    server: Server, shared: tuple[Path, Path], tmp_path: Path
) -> None:
    lab, hub = shared
    colleague = clone(server, hub, tmp_path / "colleague")
    run(colleague, "dvc", "repro", "prepare", "base_model")  # other people's, in no remote
    output = experiment(colleague, "method=lora_inc_sapo", options=("--pull",))
    assert stages_run(output) <= {"report"}
    assert read(colleague / "metrics/cl.json") == read(lab / "metrics/cl.json")
    assert contents(colleague, *KEPT) == contents(lab, *KEPT)


def test_a_shared_cache_serves_another_clone(tiny_project: Path, tmp_path: Path) -> None:
    lab, cache = copy_of(tiny_project, tmp_path / "lab"), tmp_path / "team/cache"
    run(lab, "dvc", "cache", "dir", str(cache))
    run(lab, "dvc", "config", "cache.shared", "group")
    run(lab, "dvc", "config", "cache.type", "reflink,hardlink,symlink,copy")
    copy_of(lab / ".dvc/cache", cache)
    shutil.rmtree(lab / ".dvc/cache")
    run(lab, "dvc", "checkout", "--relink")
    notes = (f"new here: {number}" for number in range(1000))
    digests = {text: hashlib.md5(text.encode()).hexdigest() for text in notes}
    # In a folder of the cache that was not there before, and so has not the rights that it was copied with
    text = next(text for text, md5 in digests.items() if not (cache / "files/md5" / md5[:2]).exists())
    (lab / "notes").write_text(text)
    run(lab, "dvc", "add", "notes")
    (new,) = cache.glob(f"files/md5/*/{digests[text][2:]}")
    assert new.parent.stat().st_mode & stat.S_IWGRP
    assert new.parent.stat().st_mode & stat.S_ISGID
    commit(lab, "a shared cache")
    run(tmp_path, "git", "clone", "-q", str(lab), "colleague")
    run(tmp_path / "colleague", "dvc", "checkout", "--allow-missing")
    assert contents(tmp_path / "colleague", *KEPT, "notes") == contents(lab, *KEPT, "notes")


def push_and_kill(
    server: Server, lab: Path, after: int, client: bool = False, restart: bool = False
) -> tuple[int, str]:
    """`dvc push`, and after so many bytes the server's (or client's) death; the push's status and output."""
    before = server.stored()
    with (lab.parent / "push.log").open("w+") as log:
        push = subprocess.Popen(
            ["dvc", "push", "-j", "2"], cwd=lab, env=environment(), stdout=log, stderr=subprocess.STDOUT
        )
        while server.stored() < before + after:
            assert push.poll() is None, (
                f"the push ended first: {(lab.parent / 'push.log').read_text()[-2000:]}"
            )
            time.sleep(0.002)
        if client:
            push.kill()
        else:
            server.kill()
            if restart:
                server.start()
        push.wait(timeout=300)
        log.seek(0)
        return push.returncode, log.read()


@pytest.mark.parametrize(
    ("megabytes", "deaths"),
    [
        pytest.param(6, ["server"], id="6-MB", marks=LONG),  # an S3 client tries for 11 s with every folder
        pytest.param(100, ["server", "server", "restart", "client", "restart"], id="100-MB", marks=LONG),
    ],
)
def test_a_push_broken_in_the_middle_is_completed_by_another(
    server: Server, tiny_project: Path, tmp_path: Path, megabytes: int, deaths: list[str]
) -> None:
    lab = copy_of(tiny_project, tmp_path / "lab")
    hub = share(server, lab, f"broken-{megabytes}")
    run(lab, "dvc", "push")  # S3 clients try for 11 s with every folder: one will do
    draw = random.Random(megabytes)
    for turn, death in enumerate(deaths):
        (lab / f"adapters/{turn}").mkdir(parents=True)
        for number in range(20):
            (lab / f"adapters/{turn}/{number}.safetensors").write_bytes(draw.randbytes(megabytes * 50_000))
        run(lab, "dvc", "add", "-q", "adapters")
        after = round(draw.uniform(0.1, 0.6) * megabytes * 1_000_000)
        status, output = push_and_kill(
            server, lab, after, client=death == "client", restart=death == "restart"
        )
        if death == "server":
            assert status != 0
            assert "ERROR: " in output
            server.start()
        assert "Traceback" not in output
        assert "in sync" in run(lab, "dvc", "status", "-c") or status != 0, (
            "a push that said it had succeeded had not"
        )
        run(lab, "dvc", "push")
        assert "in sync" in run(lab, "dvc", "status", "-c")
    assert "Everything is up to date" in run(lab, "dvc", "push")
    publish(lab)
    colleague = clone(server, hub, tmp_path / "colleague")
    run(colleague, "dvc", "pull")
    assert len(contents(colleague, "adapters")) == 20 * len(deaths)
    assert contents(colleague, *KEPT, "adapters") == contents(lab, *KEPT, "adapters")


@LONG
@pytest.mark.parametrize("server", ["ssh"], indirect=True)
def test_damage_on_the_remote_is_refused_and_repaired_as_the_document_says(
    server: Server, tiny_project: Path, tmp_path: Path
) -> None:
    lab = copy_of(tiny_project, tmp_path / "lab")
    hub = share(server, lab, "damaged")
    run(lab, "dvc", "remote", "modify", server.name, "verify", "true")
    publish(lab)
    run(lab, "dvc", "push", "--run-cache")
    remote = server.data / "damaged"
    adapter = max(remote.glob("files/md5/*/*"), key=lambda path: path.stat().st_size)
    adapter.write_bytes(adapter.read_bytes()[:-1])

    colleague = clone(server, hub, tmp_path / "colleague")
    assert "ERROR: failed to pull" in run(colleague, "dvc", "pull", fails=True)
    (lines,) = re.findall(
        r"^    (cd files/md5 .*\n.*\n)", (REPOSITORY / "docs/remotes.md").read_text(), re.MULTILINE
    )
    assert run(remote, "sh", "-c", lines).split() == [f"./{adapter.parent.name}/{adapter.name}"]
    adapter.unlink()
    for tree in remote.glob("files/md5/*/*.dir"):
        tree.unlink()
    run(lab, "dvc", "push", "--run-cache")
    assert not run(remote, "sh", "-c", lines)
    run(colleague, "dvc", "pull")
    assert contents(colleague, *KEPT) == contents(lab, *KEPT)
