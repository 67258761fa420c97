"""Files known by Git blob id, fetched from a real server on loopback that can fail in every way we know."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sapo.data import download
from sapo.data.catalog import Blob
from sapo.data.download import AT_ONCE, TRIES, fetch
from sapo.runtime.errors import DataError
from sapo.runtime.files import git_blob_id

CONTENT = {
    "A/train.json": bytes(range(256)) * 3000,
    "A/test.json": b"[]\r\n",
    "B/train.json": "文本\n".encode(),
    "empty": b"",
}
PATH = "A/train.json"
PATIENCE = 30  # seconds until a test that waits for another thread gives up
untimed = settings(deadline=None, max_examples=50)  # how long a test takes depends on the machine


class Server(ThreadingHTTPServer):
    """Serves `folder`.

    `faults`: what goes wrong with a path, request after request, and nothing once they are used up.
    `asked`: the path of every request. `together`, if set: so many requests wait for each other.
    """

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """A client that gives up on a fault, as it should, is no news."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: dict[str, Iterator[str]] = {}
        self.asked: list[str] = []
        self.together: threading.Barrier | None = None
        self.ending = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.removeprefix("/")
        self.server.asked.append(path)
        if self.server.together:
            self.server.together.wait(PATIENCE)
        fault = next(self.server.faults.get(path, iter(())), "none")
        file = self.server.folder / path
        content = file.read_bytes() if file.is_file() else b""
        if fault == "silent" and self.server.ending.wait(PATIENCE):
            return
        self.send_response(
            404 if fault == "absent" or not file.is_file() else 500 if fault == "broken" else 200
        )
        if fault == "empty":
            content = b""
        elif fault == "flipped":
            content = content[:-1] + bytes([content[-1] ^ 1])
        elif fault == "longer":
            content += b"\n"
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2 if fault in ("truncated", "stalled") else len(content)
        self.wfile.write(content[:half])
        if fault == "stalled" and not self.server.ending.wait(PATIENCE):
            self.wfile.write(
                content[half:]
            )  # a client that waits for ever has all of it in the end, and fails its test

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The folder that holds every file of CONTENT."""
    for path, content in CONTENT.items():
        (tmp_path / "published" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "published" / path).write_bytes(content)
    return tmp_path / "published"


@pytest.fixture
def server(published: Path) -> Iterator[Server]:
    with Server(published) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.ending.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; no proxy; hardly any pause between tries."""
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    return tmp_path / "cache"


def git_id(file: Path) -> str:
    """The blob id that Git itself gives the file."""
    done = subprocess.run(
        ["git", "hash-object", "--no-filters", str(file)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def blobs(folder: Path, paths: Sequence[str] = tuple(CONTENT)) -> list[Blob]:
    return [Blob(path, git_id(folder / path), (folder / path).stat().st_size) for path in paths]


def held(cache: Path) -> list[Path]:
    """All that the cache holds, kept files and what a failed download left, but for the empty lock file."""
    lock = cache / ".git-blobs.lock"
    assert not lock.exists() or lock.stat().st_size == 0
    return [path for path in cache.rglob("*") if path not in (cache / "git-blobs", lock)]


def read(files: dict[str, Path]) -> dict[str, bytes]:
    return {path: file.read_bytes() for path, file in files.items()}


@untimed
@given(content=st.binary())
def test_a_blob_id_is_the_one_that_git_gives(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "blob"
    file.write_bytes(content)
    assert git_blob_id(file) == git_id(file)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_blob_id_does_not_depend_on_how_a_file_is_read(tmp_path: Path, size: int) -> None:
    (tmp_path / "blob").write_bytes(b"x" * size)
    assert git_blob_id(tmp_path / "blob") == git_id(tmp_path / "blob")


def test_every_file_comes_whole_and_is_kept_under_its_git_id(server: Server, cache: Path) -> None:
    wanted = blobs(server.folder)
    files = fetch(server.url, wanted)
    assert read(files) == CONTENT
    assert files == {blob.path: cache / "git-blobs" / blob.id for blob in wanted}
    assert sorted(held(cache)) == sorted(files.values())
    assert sorted(server.asked) == sorted(CONTENT)


def test_a_file_of_unknown_size_comes_whole(server: Server) -> None:
    unsized = [Blob(blob.path, blob.id, None) for blob in blobs(server.folder)]
    assert read(fetch(server.url, unsized)) == CONTENT


def test_a_second_fetch_asks_for_nothing(server: Server) -> None:
    files = fetch(server.url, blobs(server.folder))
    server.asked.clear()
    assert fetch(server.url, blobs(server.folder)) == files
    assert fetch("http://nowhere.invalid", blobs(server.folder)) == files
    assert server.asked == []


def test_only_what_is_not_kept_is_asked_for(server: Server) -> None:
    fetch(server.url, blobs(server.folder, ["A/train.json", "A/test.json"]))
    server.asked.clear()
    assert read(fetch(server.url, blobs(server.folder))) == CONTENT
    assert sorted(server.asked) == ["B/train.json", "empty"]


def test_nothing_is_fetched_when_nothing_is_wanted(server: Server, cache: Path) -> None:
    assert fetch(server.url, []) == {}
    assert server.asked == []
    assert not cache.exists()


@pytest.mark.parametrize(
    "damage", [b"", CONTENT[PATH][:-1], CONTENT[PATH] + b"\n", b"\xff" + CONTENT[PATH][1:]]
)
def test_a_damaged_kept_file_is_fetched_again(
    server: Server, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = blobs(server.folder, [PATH])
    kept = fetch(server.url, wanted)[PATH]
    kept.write_bytes(damage)
    assert read(fetch(server.url, wanted)) == {PATH: CONTENT[PATH]}
    assert server.asked == [PATH, PATH]
    assert f"{kept} is damaged: fetching {PATH} again" in capsys.readouterr().out


def test_a_damaged_kept_file_is_not_used_when_it_cannot_be_fetched_again(server: Server) -> None:
    wanted = blobs(server.folder, [PATH])
    fetch(server.url, wanted)[PATH].write_bytes(b"[]")
    (server.folder / PATH).unlink()
    for _ in range(2):
        with pytest.raises(DataError, match=f"{server.url}/{PATH}: it is not there"):
            fetch(server.url, wanted)


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        ("truncated", TRIES),
        ("silent", TRIES),
        ("stalled", TRIES),
        ("broken", TRIES),
        ("absent", 1),
        ("flipped", 1),
        ("longer", 1),
        ("empty", 1),
    ],
)
def test_a_fault_is_an_error_that_names_the_file_and_leaves_nothing(
    server: Server,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    tries: int,
) -> None:
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.1 if fault in ("silent", "stalled") else PATIENCE)
    server.faults[PATH] = repeat(fault)
    with pytest.raises(DataError, match=f"{server.url}/{PATH}"):
        fetch(server.url, blobs(server.folder, [PATH]))
    assert held(cache) == []
    assert capsys.readouterr().out.count("trying again (") == tries - 1


def test_a_file_with_one_bit_flipped_is_refused_by_name_and_id(server: Server) -> None:
    wanted = blobs(server.folder, [PATH])
    (server.folder / PATH).write_bytes(CONTENT[PATH][:-1] + bytes([CONTENT[PATH][-1] ^ 1]))
    found = git_id(server.folder / PATH)
    with pytest.raises(
        DataError, match=f"{PATH}: its Git blob id is {found}, expected {wanted[0].id}; it was not kept"
    ):
        fetch(server.url, wanted)


@pytest.mark.parametrize("fault", ["broken", "truncated", "silent", "stalled"])
def test_a_fault_that_passes_is_survived(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.5 if fault in ("silent", "stalled") else PATIENCE)
    server.faults[PATH] = iter([fault])
    assert read(fetch(server.url, blobs(server.folder, [PATH]))) == {PATH: CONTENT[PATH]}
    assert f"trying again (1 of {TRIES})" in capsys.readouterr().out


def test_one_bad_file_among_several_is_the_one_that_is_named(server: Server, cache: Path) -> None:
    server.faults["B/train.json"] = repeat("flipped")
    with pytest.raises(DataError, match=r"B/train\.json"):
        fetch(server.url, blobs(server.folder))
    kept = {git_blob_id(path) for path in held(cache)}
    assert kept <= {blob.id for blob in blobs(server.folder) if blob.path != "B/train.json"}
    server.faults.clear()
    assert read(fetch(server.url, blobs(server.folder))) == CONTENT


def test_several_files_are_fetched_at_the_same_time(server: Server) -> None:
    paths = [f"many/{number}.json" for number in range(3 * AT_ONCE)]
    (server.folder / "many").mkdir()
    for path in paths:
        (server.folder / path).write_text(path)
    server.together = threading.Barrier(AT_ONCE)
    assert read(fetch(server.url, blobs(server.folder, paths))) == {path: path.encode() for path in paths}


def test_two_at_once_fetch_the_same_file_once_and_both_have_it(server: Server, cache: Path) -> None:
    wanted = blobs(server.folder, [PATH])
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: fetch(server.url, wanted), range(2))
    assert read(first) == read(second) == {PATH: CONTENT[PATH]}
    assert held(cache) == [first[PATH]]
    assert server.asked.count(PATH) == 1


def test_what_a_killed_process_left_half_downloaded_goes_with_the_next_download(
    server: Server, cache: Path
) -> None:
    left = cache / "git-blobs/.partial-abc"
    left.mkdir(parents=True)
    (left / "file").write_bytes(CONTENT[PATH][:100])
    files = fetch(server.url, blobs(server.folder, [PATH]))
    assert read(files) == {PATH: CONTENT[PATH]}
    assert list((cache / "git-blobs").iterdir()) == [files[PATH]]


def test_two_paths_with_the_same_bytes_are_both_found(server: Server) -> None:
    (server.folder / "A/dev.json").write_bytes(CONTENT["A/test.json"])
    files = fetch(server.url, blobs(server.folder, ["A/dev.json", "A/test.json"]))
    assert read(files) == {"A/dev.json": CONTENT["A/test.json"], "A/test.json": CONTENT["A/test.json"]}


@pytest.mark.parametrize("base", ["{folder}", "{folder}/", "file://{folder}", "~/published", "published"])
def test_a_folder_serves_as_well_as_a_url(
    published: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    monkeypatch.setenv("HOME", str(published.parent))
    monkeypatch.chdir(published.parent)
    assert read(fetch(base.format(folder=published), blobs(published))) == CONTENT


def test_a_url_may_end_with_a_slash(server: Server) -> None:
    assert read(fetch(f"{server.url}/", blobs(server.folder))) == CONTENT


def test_a_file_that_a_folder_does_not_hold_is_named(published: Path, cache: Path) -> None:
    wanted = blobs(published, [PATH])
    (published / PATH).unlink()
    with pytest.raises(DataError, match=rf"{published}/{PATH}: it is not there.*data\.url"):
        fetch(str(published), wanted)
    assert held(cache) == []


def test_a_file_that_a_folder_holds_changed_is_refused_by_name(published: Path, cache: Path) -> None:
    wanted = blobs(published, [PATH])
    (published / PATH).write_bytes(b"[]")
    with pytest.raises(DataError, match=rf"{published}/{PATH} is not the file"):
        fetch(str(published), wanted)
    assert held(cache) == []


@pytest.mark.parametrize("base", ["nosuch://host/files", "http://"])
def test_a_url_that_cannot_be_read_is_an_error_that_says_which_setting(
    published: Path, cache: Path, base: str
) -> None:
    with pytest.raises(DataError, match=r"data\.url"):
        fetch(base, blobs(published, [PATH]))
    assert held(cache) == []


def test_an_unreachable_host_is_an_error_that_names_file_and_setting(published: Path, cache: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound but not listening: every connection is refused
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DataError, match=rf"{url}/{PATH}.*data\.url"):
            fetch(url, blobs(published, [PATH]))
    assert held(cache) == []


def test_a_cache_that_cannot_be_written_is_an_error_that_names_its_setting(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.touch()
    monkeypatch.setenv("SAPO_CACHE", os.fspath(cache / "below"))
    with pytest.raises(DataError, match=rf"cannot store {PATH}.*SAPO_CACHE"):
        fetch(server.url, blobs(server.folder, [PATH]))
    assert server.asked == []


@pytest.fixture
def redirecting(server: Server) -> Iterator[str]:
    """Another host that sends every request on to `server`, or to a local file."""

    class Sends(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            target = (
                f"file://{server.folder}{self.path[6:]}"
                if self.path.startswith("/local")
                else f"{server.url}{self.path}"
            )
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.2", 0), Sends) as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.2:{other.server_port}"
        other.shutdown()
        thread.join()


def test_a_redirect_to_another_host_is_followed_and_what_it_brings_is_checked(
    server: Server, redirecting: str, cache: Path
) -> None:
    wanted = blobs(server.folder)
    assert read(fetch(redirecting, wanted)) == CONTENT
    (server.folder / "A/test.json").write_bytes(b"[{}]")
    fetch(redirecting, wanted)["A/test.json"].unlink()
    with pytest.raises(DataError, match=r"A/test\.json"):
        fetch(redirecting, wanted)
    assert len(held(cache)) == len(CONTENT) - 1


def test_a_redirect_to_a_local_file_is_not_followed(server: Server, redirecting: str, cache: Path) -> None:
    with pytest.raises(DataError, match=f"cannot fetch {redirecting}/local/{PATH}"):
        fetch(f"{redirecting}/local", blobs(server.folder, [PATH]))
    assert held(cache) == []


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_does_not_end_is_given_up(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    [wanted] = blobs(server.folder, [PATH])
    monkeypatch.setattr(download, "LARGEST", 1 << 20)
    (server.folder / PATH).write_bytes(b"x" * (20 << 20))
    with pytest.raises(
        DataError, match=rf"{PATH} is longer than the {wanted.size if known else 1 << 20} bytes"
    ):
        fetch(server.url, [wanted if known else Blob(wanted.path, wanted.id, None)])
    assert held(cache) == []
