"""Unpack what benchmarks/pack.py has packed, and install its wheels in the copy. Needs Python and pip.

python unpack.py FOLDER          # a new folder
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def parts() -> list[Path]:
    """The files that SHA256SUMS names, checked."""
    found = []
    for line in (HERE / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        path = HERE / Path(name).name
        if not path.is_file():
            sys.exit(f"error: {path} is missing: copy it again")
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                sys.exit(f"error: {path} is damaged: copy it again")
        found.append(path)
    return found


def extract(archive: tarfile.TarFile, folder: Path) -> None:
    """Write the archive's files and folders, and refuse all else; tarfile's filters need Python 3.11.4."""
    top = folder.resolve()
    for member in archive:
        path = (top / member.name).resolve()
        if not (member.isreg() or member.isdir()) or not path.is_relative_to(top):
            sys.exit(f"error: {member.name!r} in the archive is no file or folder below {folder}")
        (path if member.isdir() else path.parent).mkdir(parents=True, exist_ok=True)
        if member.isreg():
            source = archive.extractfile(member)
            assert source
            with source, path.open("wb") as target:
                shutil.copyfileobj(source, target)


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    if folder.exists():
        sys.exit(f"error: {folder} is there already: name a new folder")
    with tempfile.TemporaryFile() as whole:
        for part in parts():
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole)
        whole.seek(0)
        try:
            with tarfile.open(fileobj=whole, mode="r:xz") as archive:
                extract(archive, folder)
        except tarfile.TarError as error:
            sys.exit(f"error: {error}")
    wheels, site = folder / "wheels", folder / "benchmarks/.work/site"
    pip = [sys.executable, "-m", "pip", "--isolated", "install", "--quiet", "--root-user-action=ignore"]
    only_these = ["--no-index", "--no-deps", "--find-links", str(wheels), "--target", str(site)]
    command = [*pip, *only_these, "-r", str(wheels / "requirements.txt")]
    if subprocess.run(command).returncode:
        sys.exit("error: pip could not install the wheels")
    print(f"unpacked; to run: {sys.executable} {folder / 'benchmarks/gpu.py'}")


if __name__ == "__main__":
    main()
