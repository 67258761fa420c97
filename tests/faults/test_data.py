"""Faults of tasks in files."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from faulty import tell_apart
from sapo.data.folder import language_of, load_folder_tasks
from tiny import write_tasks


def test_fault_03_an_instruction_rewritten_in_place_is_read_anew(tmp_path: Path) -> None:
    def instruction(folder: str) -> str:
        [task] = load_folder_tasks(["t"], folder, (1, 1))
        return task.instruction

    def check(reading: Callable[[str], str]) -> None:
        folder = tmp_path / "tasks"
        write_tasks(folder)
        path = folder / "instructions.json"
        before, times = reading(str(folder)), path.stat()
        path.write_text(path.read_text().replace("Judge it.", "Weigh it."))  # as long, and as old
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (before, reading(str(folder))) == ("Judge it.", "Weigh it.")

    tell_apart(check, instruction, cache(instruction))


def test_fault_13_the_letters_tell_the_language() -> None:
    def check(language: Callable[[str], str]) -> None:
        assert language("判断以下句子的态度，选择一项。") == "zh"
        assert language("Say what the heading 文本 above the text stands for.") == "en"

    tell_apart(check, language_of, lambda text: "zh" if "文本" in text else "en")
