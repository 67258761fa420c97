"""Methods side by side, over seeds and test rows: means, intervals, and tests of the differences.

Not a stage of the pipeline.

usage: python tools/compare.py REV_OR_EXPERIMENT_OR_FILE ... [--metric log_likelihood] [--original-prompt]
           [--difference METHOD METHOD] [--md | --csv | --html FILE]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from sapo.analysis.answer_metrics import METRICS
from sapo.analysis.comparison import grouped, read_run
from sapo.analysis.comparison_tables import as_csv, asked, differences, every, markdown, means
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
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="two Markdown tables, as the README has them")
    form.add_argument("--csv", action="store_true", help="a line a number, with its interval and test")
    form.add_argument(
        "--html", metavar="FILE", type=Path, help="one page: tables, matrices and instructions side by side"
    )
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
        if arguments.html:
            check_page(arguments.html)
        groups = grouped([read_run(name, bool(arguments.html)) for name in arguments.runs])
        pairs = asked(groups, arguments.difference) if arguments.difference else every(groups)
        if arguments.html:
            from sapo.analysis.comparison_page import write_comparison  # it takes a second

            write_comparison(arguments.html, groups, pairs, arguments.metric, kind)
            lines = [f"{arguments.html} is written"]
        elif arguments.csv:
            lines = as_csv(groups, pairs, arguments.metric, kind).splitlines()
        elif arguments.md:
            lines = markdown(groups, pairs, arguments.metric, kind)
        else:
            lines = means(groups, arguments.metric, kind)
            lines += ["", *differences(pairs, arguments.metric, kind)]
        print("\n".join(lines))
    except DataError as error:
        sys.exit(f"error: {one_line(with_advice(error))}")
    except OSError as error:
        sys.exit(f"error: {error.filename} cannot be written: {error.strerror}")


def check_page(path: Path) -> None:
    """Refuse (DataError), before any work, a name that is no page's or where no file can be."""
    if path.suffix != ".html":
        raise DataError(f"--html {path}: the name of a page ends in .html")
    if path.is_dir() or not path.parent.is_dir():
        raise DataError(f"--html {path}: no file can be written there")


if __name__ == "__main__":
    main()
