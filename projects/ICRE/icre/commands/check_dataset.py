"""Is a data set complete, readable and the published one? tools/check_dataset.py."""

import argparse
import sys
from pathlib import Path

from icre.commands import arguments
from icre.utils import cli
from icre.utils.files import check_output


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Check that a data set on disk is complete, readable and the published one. "
        "Every image that a split file lists is decoded. Exit status: 0 training can run (perhaps "
        "on another set than the published one), 1 it would stop, 2 bad arguments."
    )
    result.add_argument("layout", metavar="{sysu,regdb,llcm,table}")
    result.add_argument(
        "root",
        metavar="ROOT",
        type=Path,
        help="the data set's own folder, or the one that holds it; of a table the file",
    )
    result.add_argument("--json", metavar="OUT", help="write counts, errors and warnings")
    arguments.add_import(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Print the report; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Examine the data set; 1 where training would stop."""
    arguments.import_modules(args)
    import icre.datasets  # noqa: F401  (registers the data sets)
    from icre.datasets.doctor import examine, examine_table, find_folder, text
    from icre.evaluation import records

    check_output(args.json)
    if args.layout == "table":
        report = examine_table(args.root)
    else:
        report = examine(args.layout, find_folder(args.layout, args.root))
    cli.show(text(report))
    if args.json:
        records.save(report.as_json(), args.json)
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
