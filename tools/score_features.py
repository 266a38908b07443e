#!/usr/bin/env python
"""Score features of any model under the VI-ReID test protocols.

    python tools/score_features.py FEATURES --protocol sysu-all-single [NAME ...]

FEATURES is an .npz with the arrays features (N, D), pids, camids, modalities (0 visible, 1
infrared) and paths (relative to the data set's root); a run's folder with features.npz; or a folder
of *_cam1.mat .. *_cam6.mat as SYSU-MM01's authors ask for. With --rerank the re-ranked results
follow the plain ones, in a table of their own and labelled in the records; in each trial re-ranking
sees that trial's gallery and all its queries.
"""

import argparse
import sys

from icre.datasets.protocol import OFFICIAL, PROTOCOLS, SEEDED
from icre.evaluation import openset, records, rerank_options
from icre.evaluation.features import FeatureSet
from icre.evaluation.rerank import reranker
from icre.evaluation.score import score
from icre.utils import cli


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", metavar="FEATURES")
    parser.add_argument(
        "--protocol",
        nargs="+",
        metavar="NAME",
        help=f"default: those of the data set; one or more of {', '.join(PROTOCOLS)}",
    )
    parser.add_argument(
        "--draw",
        choices=(OFFICIAL, SEEDED),
        help="default: official where --perm is given, else seeded",
    )
    parser.add_argument("--perm", metavar="rand_perm_cam.mat", help="SYSU-MM01's official draws")
    parser.add_argument(
        "--test-ids",
        metavar="test_id.txt",
        help="score these identities only (SYSU-MM01's exp/test_id.txt or test_id.mat)",
    )
    parser.add_argument("--split", type=int, help="RegDB's split (1-10), for the record")
    rerank_options.add_arguments(parser)
    parser.add_argument(
        "--open-set",
        action="store_true",
        help="also TAR at given FAR, per comparison and per search for a person who is not there",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", metavar="OUT", help="write the list of result records")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print the results table; 0, or 2 with one line about bad input."""
    args = parse_arguments(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    choice = rerank_options.from_arguments(args)
    features = FeatureSet.load(args.features, args.test_ids)
    results = score(
        features,
        args.protocol,
        args.draw,
        args.perm,
        device=args.device,
        reranker=reranker(choice),
        split=args.split,
    )
    print(records.table(results))
    if args.open_set:
        print("\n" + openset.add_to(results, features, args.protocol, args.draw, args.perm))
    if args.json:
        records.save(results, args.json)


if __name__ == "__main__":
    sys.exit(main())
