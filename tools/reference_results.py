"""AP, BWT and FWT of a run of the public SAPO implementation, to compare with ours.

usage: python tools/reference_results.py OUTPUTS INITIAL_JSON [TASK ...]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from sapo.analysis.continual import continual_metrics
from sapo.analysis.reference_results import as_table, read_reference_results
from sapo.runtime.command import one_line
from sapo.runtime.errors import DataError


def main() -> None:
    parser = argparse.ArgumentParser(
        description="AP, BWT and FWT of a run of the public SAPO implementation."
    )
    parser.add_argument(
        "outputs", help="its folder of stages: 1-TASK/all_results.json, 2-TASK/all_results.json ..."
    )
    parser.add_argument(
        "initial", help="JSON file with the base model's scores, such as original_performance/qwen3-8b.json"
    )
    parser.add_argument(
        "tasks", nargs="*", help="data set names in the stages' order, where the folders' names do not tell"
    )
    arguments = parser.parse_args()
    try:
        names, zero_shot, scores = read_reference_results(
            arguments.outputs, arguments.initial, arguments.tasks
        )
        metrics = continual_metrics(zero_shot, scores)
    except DataError as error:
        sys.exit(f"error: {one_line(str(error))}")
    print(as_table(names, zero_shot, scores))
    print("ROUGE-L: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()
