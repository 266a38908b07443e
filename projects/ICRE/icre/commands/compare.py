"""Is the difference between two models significant? tools/compare.py."""

import argparse
import sys

from icre.commands import arguments
from icre.utils import cli
from icre.utils.files import check_output


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Difference B - A in Rank-1, mAP and mINP with 95 % intervals of a paired "
        "bootstrap over identities and trials, in whole and for each pair of a query and a gallery "
        "camera. A and B are features of the same images, as tools/score_features.py reads them."
    )
    result.add_argument("first", metavar="A")
    result.add_argument("second", metavar="B")
    arguments.add_protocol(result)
    result.add_argument("--test-ids", metavar="test_id.txt", help="compare on these identities")
    result.add_argument("--samples", type=int, default=2000, help="bootstrap samples (2000)")
    result.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")
    arguments.add_device(result, "cpu")
    result.add_argument("--json", metavar="OUT", help="write the comparison")
    arguments.add_import(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; 0, or 2 with one line about bad input."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Compare and print."""
    from icre.evaluation import records
    from icre.evaluation.compare import Bootstrap, compare
    from icre.evaluation.comparison import report
    from icre.evaluation.features import FeatureSet

    check_output(args.json)
    arguments.import_modules(args)
    first, second = (FeatureSet.load(path, args.test_ids) for path in (args.first, args.second))
    bootstrap = Bootstrap(args.samples, args.seed)
    result = compare(first, second, args.protocol, args.draw, args.perm, bootstrap, args.device)
    cli.show(report(result, (args.first, args.second)))
    if args.json:
        records.save(result, args.json)


if __name__ == "__main__":
    sys.exit(main())
