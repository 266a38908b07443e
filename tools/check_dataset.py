#!/usr/bin/env python
"""Is a data set complete, readable and the published one?

    python tools/check_dataset.py {sysu,regdb,llcm} ROOT [--json OUT]

ROOT is the data set's own folder (SYSU-MM01, RegDB, LLCM) or the folder that holds it. Every image
that a split file lists is decoded. Exit status: 0 training can run (perhaps on another set than the
published one), 1 it would stop, 2 bad arguments.
"""

import argparse
import sys
from pathlib import Path

from icre.datasets.doctor import SETS, examine, find_folder, text
from icre.evaluation import records
from icre.evaluation.matlab import read_permutation
from icre.utils import cli


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layout", choices=list(SETS))
    parser.add_argument("root", metavar="ROOT", type=Path)
    parser.add_argument("--json", metavar="OUT", help="write counts and findings")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print the report; 0, 1 where training would stop, 2 with one line about bad arguments."""
    args = parse_arguments(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    folder = find_folder(args.layout, args.root)
    report = examine(args.layout, folder, read_permutation)
    print(text(report))
    if args.json:
        records.save(report.as_json(), args.json)
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
