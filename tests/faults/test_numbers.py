"""The faults are all here: each of the 22 has a test with its number, which tells it apart."""

import ast
import re
from pathlib import Path

FAULTS = range(1, 23)


def test_every_fault_has_a_test_of_its_number_that_tells_it_apart() -> None:
    found = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            number = isinstance(node, ast.FunctionDef) and re.match(r"test_fault_(\d\d)_", node.name)
            if number:
                called = {
                    call.func.id
                    for call in ast.walk(node)
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
                }
                assert "tell_apart" in called, f"{path.name}: {node.name}"
                found.add(int(number[1]))
    assert sorted(found) == list(FAULTS)
