"""A task as Super-NaturalInstructions publishes it: one JSON file, several right answers a row, no splits."""

import random
from pathlib import Path
from typing import Any

from sapo.artifacts.task import LONE_SURROGATE, Example, check_example
from sapo.runtime.errors import DataError
from sapo.runtime.files import read_json


def read_natural_instructions(
    path: Path, rows: tuple[int, int], seed: int
) -> tuple[dict[str, Any], list[Example], list[Example]]:
    """What the task asks, its training rows and its test rows: at most `rows` of each.

    The first rows of the file are tested, as that benchmark evaluates. Training rows are drawn by `seed` from
    the others whose text is not tested. Of several definitions the first is the instruction. Answers are free
    text.

    Raises DataError that names file and instance for one that cannot be used.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"Definition", "Instances"} <= content.keys():
        raise DataError(f"{path}: expected an object with 'Definition' and 'Instances'")
    definition, instances = content["Definition"], content["Instances"]
    instruction = definition[0] if isinstance(definition, list) and definition else definition
    if not isinstance(instruction, str) or LONE_SURROGATE.search(instruction):
        raise DataError(f"{path}: 'Definition' must be a text or a list of texts, found {definition!r:.80}")
    if not isinstance(instances, list) or not instances:
        raise DataError(f"{path}: 'Instances' must be a list of rows that is not empty")
    examples = [
        check_example(row, [], f"{path}, instance {number}", ("input", "output"))
        for number, row in enumerate(instances, start=1)
    ]
    test = examples[: rows[1]]
    tested = {example.sentence.strip() for example in test}
    train = [example for example in examples if example.sentence.strip() not in tested]
    if not train:
        raise DataError(
            f"{path}: data.test_rows = {rows[1]} leaves none of its {len(examples)} instances "
            "for training: lower it"
        )
    random.Random(f"{seed}/{path.stem}").shuffle(train)
    return {"instruction": instruction, "suffix": "", "labels": []}, train[: rows[0]], test
