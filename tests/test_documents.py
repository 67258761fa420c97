import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
WRITTEN_BY_A_RUN = re.compile(
    r"^(data|models|metrics|plots|benchmarks/results|benchmarks/\.work|\.dvc/tmp)/|TASK|STAGE|s3:"
)


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"]
DOCUMENTS += sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))
PATH = re.compile(r"`((?:src|conf|tests|benchmarks|docs|\.dvc|\.ci)/[\w./*-]*|[\w]+\.(?:py|yaml|md|toml))`")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_fault_22_every_path_that_a_document_names_exists(document: str) -> None:
    named = set(PATH.findall((REPOSITORY / document).read_text()))
    assert named
    for path in sorted(named):
        if not WRITTEN_BY_A_RUN.search(path):
            found = [
                *REPOSITORY.glob(path.rstrip("/")),
                *REPOSITORY.glob(f"src/sapo/**/{path}"),
                *REPOSITORY.glob(f"*/**/{path}"),
            ]
            assert found, f"{document} names {path}, which is not there"


def test_fault_22_every_choice_that_the_readme_names_is_a_file_and_every_file_is_named() -> None:
    text = (REPOSITORY / "README.md").read_text()
    for group in ("method", "model", "sequence", "recipe"):
        for names in re.findall(rf"-S {group}=([\w,]+)", text):
            for name in names.split(","):
                assert (REPOSITORY / f"conf/{group}/{name}.yaml").is_file(), f"{group}={name}"
        for path in (REPOSITORY / "conf" / group).glob("*.yaml"):
            assert f"`{path.stem}`" in text, path
