"""benchmarks/pack.py and unpack.py: what was packed in parts comes out whole and runs without a network."""

import hashlib
import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
import tarfile
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laboratory import REPOSITORY
from sapo.runtime.errors import DataError

BENCHMARKS = REPOSITORY / "benchmarks"
Load = Callable[[str], Any]
Command = Callable[..., str]
NOWHERE = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)


@pytest.fixture(scope="session")
def installed() -> list[str]:
    """All that this Python has: with it there, no wheel is packed."""
    return sorted({found.name for found in importlib.metadata.distributions()})


@pytest.fixture
def pack(load: Load, installed: list[str]) -> Callable[..., None]:
    """Pack without wheels, by the words of a command line."""
    module = load("pack")
    return lambda *words: module.pack(
        module.options().parse_args([*map(str, words), "--tiny", "--there", *installed])
    )


def test_what_is_packed_in_parts_unpacks_and_runs(
    command: Command, pack: Callable[..., None], tmp_path: Path
) -> None:
    packed = tmp_path / "packed"
    pack(packed, "--part-size", "50K")
    parts = sorted(packed.glob("*.tar.xz.*"))
    assert len(parts) > 2
    assert {part.stat().st_size for part in parts[:-1]} == {50 * 1024}
    sums = [line.split("  ") for line in (packed / "SHA256SUMS").read_text().splitlines()]
    assert [name for _, name in sums] == [part.name for part in parts]
    assert [digest for digest, _ in sums] == [hashlib.sha256(part.read_bytes()).hexdigest() for part in parts]

    copy, environment = tmp_path / "copy", os.environ | PROXIES
    printed = command(packed / "unpack.py", copy, env=environment)
    assert str(copy / "benchmarks/gpu.py") in printed
    assert "gpu.py" in (packed / "README.md").read_text()
    out = command(
        copy / "benchmarks/gpu.py", "--tiny", "--device", "cpu", "agree", env=environment, cwd=tmp_path
    )
    assert "agree: 6 of 6 steps done" in out
    assert (copy / "benchmarks/.work/results/gpu_agree.json").is_file()
    assert not (copy / "benchmarks/results").exists()
    assert not (copy / ".git").exists()


def damage(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damage, "is damaged"),
        (lambda part: part.write_bytes(part.read_bytes()[:-1]), "is damaged"),
        (lambda part: part.write_bytes(b""), "is damaged"),
        (Path.unlink, "is missing"),
    ],
)
def test_a_part_that_is_not_what_was_packed_is_named_and_nothing_unpacked(
    command: Command, tmp_path: Path, harm: Callable[[Path], Any], said: str
) -> None:
    packed = pack_by_hand(tmp_path / "packed", [member("a.txt")])
    harm(packed / "part.0")
    assert f"part.0 {said}: copy it again" in command(packed / "unpack.py", tmp_path / "copy", fails=True)
    assert not (tmp_path / "copy").exists()


def member(name: str, **about: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    for key, value in about.items():
        setattr(found, key, value)
    return found


def pack_by_hand(folder: Path, members: list[tarfile.TarInfo]) -> Path:
    """A pack of these members, each with four bytes where it is a file."""
    folder.mkdir()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:xz") as tar:
        for one in members:
            one.size = 4 if one.isreg() else 0
            tar.addfile(one, io.BytesIO(b"evil"))
    (folder / "part.0").write_bytes(archive.getvalue())
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(archive.getvalue()).hexdigest()}  part.0\n")
    shutil.copy(BENCHMARKS / "unpack.py", folder)
    return folder


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil")],
        [member("a/../../evil")],
        [member("link", type=tarfile.SYMTYPE, linkname="..")],
        [member("link", type=tarfile.SYMTYPE, linkname="/etc")],
        [member("link", type=tarfile.LNKTYPE, linkname="../evil")],
        [member("device", type=tarfile.CHRTYPE)],
    ],
    ids=[
        "above",
        "above from within",
        "link above",
        "link to a system's folder",
        "hard link above",
        "device",
    ],
)
def test_a_member_that_leaves_the_folder_is_refused(
    command: Command, tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    packed = pack_by_hand(tmp_path / "packed", members)
    assert "error: " in command(packed / "unpack.py", tmp_path / "copy", fails=True)
    assert not (tmp_path / "evil").exists()


def test_a_name_in_the_list_of_sums_is_no_path(command: Command, tmp_path: Path) -> None:
    packed = pack_by_hand(tmp_path / "packed", [member("a.txt")])
    (packed / "part.0").rename(tmp_path / "part.0")
    sums = packed / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("part.0", "../part.0"))
    assert "part.0 is missing" in command(packed / "unpack.py", tmp_path / "copy", fails=True)


def test_what_is_there_already_is_not_touched(
    command: Command, pack: Callable[..., None], tmp_path: Path
) -> None:
    packed = pack_by_hand(tmp_path / "packed", [member("a.txt")])
    assert "name a new folder" in command(packed / "unpack.py", packed, fails=True)
    with pytest.raises(DataError, match="name a new folder"):
        pack(packed)
    assert len(list(packed.iterdir())) == 3


def test_a_model_that_is_only_a_reference_is_refused(
    pack: Callable[..., None], tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="model=tiny_llama: its weights lie elsewhere"):
        pack(tmp_path / "packed", "-S", "model.source=folder", "-S", f"model.id={tiny_base}")
    assert not (tmp_path / "packed").exists()


def test_the_command_names_the_sequence_and_the_settings(
    pack: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(tmp_path / "packed", "--sequence", "ni_seq_c1_small", "-S", "recipe=superni", "-S", "seed= 7")
    command = "gpu.py --sequence ni_seq_c1_small -S recipe=superni -S 'seed= 7'\n"
    assert command in capsys.readouterr().out
    assert command in (tmp_path / "packed/README.md").read_text()


@given(st.lists(st.binary(max_size=70)), st.integers(1, 40))
def test_parts_joined_are_what_was_written(writes: list[bytes], most: int) -> None:
    import tempfile

    sys.path.insert(0, str(BENCHMARKS))
    try:
        from pack import Parts
    finally:
        sys.path.remove(str(BENCHMARKS))
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(Path(folder), most)
        for content in writes:
            assert parts.write(content) == len(content)
        parts.close()
        found = [part.read_bytes() for part in sorted(Path(folder).iterdir())]
    assert b"".join(found) == b"".join(writes)
    assert all(len(part) == most for part in found[:-1])
    assert len(found[-1]) <= most


@pytest.mark.parametrize(("text", "value"), [("60M", 60 << 20), ("5", 5), ("1K", 1024), ("2G", 2 << 30)])
def test_sizes(load: Load, text: str, value: int) -> None:
    assert load("pack").size(text) == value


@pytest.mark.parametrize("text", ["", "0", "0M", "-1", "60MB", "1.5M", "M", "60 M", "6e7"])
def test_other_sizes_are_refused(load: Load, text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="no size"):
        load("pack").size(text)


def test_what_the_machine_has_is_not_packed_nor_what_only_that_needs(load: Load) -> None:
    pack = load("pack")
    found = pack.missing(pack.NEEDED, pack.THERE)
    assert {"peft", "accelerate", "pydantic", "pydantic-core", "ruamel-yaml", "hydra-core"} <= found.keys()
    assert not {"torch", "transformers", "numpy", "sympy", "networkx", "httpx"} & found.keys()
    assert not [name for name in found if name.startswith(("nvidia", "cuda", "triton"))]
    assert pack.missing(["peft"], [*pack.THERE, "peft"]) == {}


@pytest.mark.parametrize(
    ("wheel", "bound"),
    [
        ("peft-0.21.2-py3-none-any.whl", False),
        ("psutil-7.2.2-cp36-abi3-manylinux_2_17_x86_64.whl", False),
        ("hf_xet-1.8.0-py3-none-manylinux_2_28_x86_64.whl", False),
        ("pydantic_core-2.50.4-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("thing-1.0-1-cp313-cp313t-manylinux_2_28_x86_64.whl", True),
    ],
)
def test_wheels_of_one_python_are_known(load: Load, wheel: str, bound: bool) -> None:
    assert load("pack").is_bound(wheel) is bound


@pytest.mark.long
def test_with_its_wheels_it_runs_where_there_is_only_torch_and_transformers(
    command: Command, load: Load, tmp_path: Path
) -> None:
    packed, copy, bare = tmp_path / "packed", tmp_path / "copy", tmp_path / "bare"
    command(BENCHMARKS / "pack.py", packed, "--tiny")
    pack = load("pack")
    bare.mkdir()
    for name in pack.missing([*pack.THERE, "pip"], []):
        found = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            if not (bare / top).exists():
                (bare / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    environment = os.environ | PROXIES | {"PYTHONPATH": str(bare)}
    offline = ["unshare", "-n"] if subprocess.run(["unshare", "-n", "true"]).returncode == 0 else []

    def alone(*words: str | Path) -> str:  # -S: nothing of this Python's site-packages
        line = [*offline, sys._base_executable, "-S", *map(str, words)]  # type: ignore[attr-defined]
        done = subprocess.run(line, env=environment, cwd=tmp_path, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    alone(packed / "unpack.py", copy)
    printed = alone(copy / "benchmarks/gpu.py", "--tiny", "--device", "cpu")
    for part in ("agree: 6 of 6", "shapes: 9 of 9", "sequence: 10 of 10"):
        assert f"{part} steps done" in printed
