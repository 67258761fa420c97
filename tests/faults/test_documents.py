"""Faults of what documents and settings promise."""

import re
from typing import Any

import yaml

from faulty import tell_apart
from laboratory import REPOSITORY


def test_fault_22_what_is_promised_is_there() -> None:
    def check_paths(text: str) -> None:
        named = re.findall(r"(?:src|conf|docs)/[\w/]+\.(?:py|yaml|md)", text)
        assert named
        assert [
            path
            for path in named
            if not (REPOSITORY / path).is_file() and not re.search("/(mine|shop)[.]", path)
        ] == []

    def check_pins(text: str) -> None:
        names = re.findall(r"^([\w.-]+)(?:\[\w+\])?==[\w.+]+(?: ; [^#\n]+)?$", text, re.MULTILINE)
        assert len(names) == len([line for line in text.splitlines() if line.strip()])  # each one pinned
        assert not [name for name in names if re.search("(^|[-_])(cuda|nvidia|cu1|npu|tpu|xla)", name)]

    def check_zero_shot(stages: dict[str, Any]) -> None:
        assert "metrics/scores/base.json" in stages.get("zero_shot", {}).get("outs", [])

    documents = "".join(
        path.read_text() for path in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]
    )
    requirements = (REPOSITORY / "requirements.txt").read_text()
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    tell_apart(check_paths, documents, f"{documents}\nbash src/scripts/run_all.py")
    tell_apart(check_pins, requirements, f"{requirements}torch_npu==2.1.0\n", f"{requirements}torch\n")
    tell_apart(
        check_zero_shot, stages, {name: stage for name, stage in stages.items() if name != "zero_shot"}
    )
