#!/usr/bin/env python
"""Is the difference between two models real?

    python tools/compare.py A B [--protocol NAME]

A and B are features of the same images (what tools/score_features.py reads). Prints the difference
B - A in Rank-1, mAP and mINP with 95 % intervals of a paired bootstrap over identities and draws,
and the same for each pair of a query and a gallery camera.
"""

import argparse
import sys

from icre.datasets.protocol import OFFICIAL, PROTOCOLS, SEEDED
from icre.evaluation import records
from icre.evaluation.compare import Bootstrap, compare, report
from icre.evaluation.features import FeatureSet
from icre.utils import cli


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B")
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help=f"default: the data set's first; one of {', '.join(PROTOCOLS)}",
    )
    parser.add_argument(
        "--draw",
        choices=(OFFICIAL, SEEDED),
        help="default: official where --perm is given, else seeded",
    )
    parser.add_argument("--perm", metavar="rand_perm_cam.mat", help="SYSU-MM01's official draws")
    parser.add_argument("--test-ids", metavar="test_id.txt", help="compare on these identities")
    parser.add_argument("--samples", type=int, default=2000, help="bootstrap samples")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", metavar="OUT", help="write the comparison")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; 0, or 2 with one line about bad input."""
    args = parse_arguments(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    first, second = (FeatureSet.load(path, args.test_ids) for path in (args.first, args.second))
    result = compare(
        first,
        second,
        args.protocol,
        args.draw,
        args.perm,
        Bootstrap(args.samples, args.seed),
        args.device,
    )
    print(report(result, (args.first, args.second)))
    if args.json:
        records.save(result, args.json)


if __name__ == "__main__":
    sys.exit(main())
