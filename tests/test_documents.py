"""What the documents name is there: paths, links, choices; and the README is short."""

import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest

REPOSITORY = Path(__file__).parent.parent
WRITTEN_BY_A_RUN = re.compile(
    r"^(data|models|metrics|plots|benchmarks/\.work|\.dvc/tmp)/|TASK|STAGE|NAME|s3:"
)
PATH = re.compile(
    r"`((?:src|conf|tests|tools|benchmarks|docs|\.dvc|\.ci)/[\w./*-]*|[\w]+\.(?:py|yaml|md|toml|txt|in|cff))`"
)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (REPOSITORY / name).exists()]


FILES = tracked()
DOCUMENTS = [name for name in FILES if name.endswith(".md") and name != "CHANGELOG.md"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_fault_22_every_path_that_a_document_names_exists(document: str) -> None:
    for path in sorted(set(PATH.findall((REPOSITORY / document).read_text(encoding="utf-8")))):
        found = any(PurePosixPath(name).match(path.rstrip("/")) for name in FILES) or any(
            name.startswith(path.rstrip("/") + "/") for name in FILES
        )
        assert found or WRITTEN_BY_A_RUN.search(path), f"{document} names {path}, which is not there"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_between_documents_leads_somewhere(document: str) -> None:
    for link in LINK.findall((REPOSITORY / document).read_text(encoding="utf-8")):
        assert (REPOSITORY / document).parent.joinpath(link).exists(), f"{document} links to {link}"


def test_fault_22_every_choice_that_the_readme_names_is_a_file_and_every_file_is_named() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for group in ("method", "model", "sequence", "recipe", "launch", "study"):
        for names in re.findall(rf"-S {group}=([\w,]+)", text):
            for name in names.split(","):
                assert (REPOSITORY / f"conf/{group}/{name}.yaml").is_file(), f"{group}={name}"
        for path in (REPOSITORY / "conf" / group).glob("*.yaml"):
            assert f"`{path.stem}`" in text, path


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_module_room_is_on_the_map() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = [path.parent.name for path in (REPOSITORY / "src/sapo").glob("*/__init__.py")]
    assert len(rooms) > 10
    assert not [room for room in rooms if f"`{room}/`" not in text and f"sapo/{room}" not in text]
