"""Methods side by side, over seeds and test rows: means, intervals, and tests of the differences.

Not a stage of the pipeline.

usage: python tools/compare.py REV_OR_EXPERIMENT_OR_FILE ... [--metric log_likelihood] [--original-prompt]
           [--difference METHOD METHOD] [--md]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.comparison import grouped, read_run
from sapo.analysis.comparison_tables import asked, differences, every, markdown, means
from sapo.artifacts.scores import Kind
from sapo.runtime.command import one_line, with_advice
from sapo.runtime.errors import DataError


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Means over seeds, and differences between methods, with 95 % intervals."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a Git revision, an experiment of `dvc exp list --name-only`, `workspace` or a file of results",
    )
    parser.add_argument("--metric", choices=METRICS, default=next(iter(METRICS)))
    parser.add_argument(
        "--original-prompt", action="store_true", help="the scores under the original instruction everywhere"
    )
    parser.add_argument("--md", action="store_true", help="two Markdown tables, as the README has them")
    parser.add_argument(
        "--difference",
        nargs=2,
        action="append",
        metavar="METHOD",
        help="the first minus the second, as the table calls them; may be given again; if not: every pair",
    )
    arguments = parser.parse_args()
    kind: Kind = "original" if arguments.original_prompt else "chosen"
    try:
        groups = grouped([read_run(name) for name in arguments.runs])
        pairs = asked(groups, arguments.difference) if arguments.difference else every(groups)
        if arguments.md:
            lines = markdown(groups, pairs, arguments.metric, kind)
        else:
            lines = means(groups, arguments.metric, kind)
            lines += ["", *differences(pairs, arguments.metric, kind)]
        print("\n".join(lines))
    except DataError as error:
        sys.exit(f"error: {one_line(with_advice(error))}")


if __name__ == "__main__":
    main()
