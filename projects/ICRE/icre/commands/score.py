"""Score features of any model under the test protocols: tools/score_features.py."""

import argparse
import sys

from icre.commands import arguments
from icre.utils import cli
from icre.utils.files import check_output


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Score features of any model under the test protocols. With --rerank the "
        "re-ranked results follow the plain ones, in a table of their own and labelled in the "
        "records; in each trial re-ranking sees that trial's gallery and all its queries."
    )
    result.add_argument(
        "features",
        metavar="FEATURES",
        help="an .npz with the arrays features (N, D), pids, camids, modalities (0 visible, 1 "
        "infrared) and paths (relative to the data set's root); a run folder; or a folder of "
        "*_cam1.mat .. *_cam6.mat as SYSU-MM01's authors ask for",
    )
    arguments.add_protocol(result, several=True)
    result.add_argument(
        "--test-ids",
        metavar="test_id.txt",
        help="score these identities only (SYSU-MM01's exp/test_id.txt or test_id.mat)",
    )
    result.add_argument("--split", type=int, help="RegDB's split (1-10), for the record")
    arguments.add_rerank(result)
    result.add_argument(
        "--open-set",
        action="store_true",
        help="also TAR at given FAR, per comparison and per search for a person who is not there",
    )
    arguments.add_device(result, "cpu")
    arguments.add_import(result)
    result.add_argument("--json", metavar="OUT", help="write the list of result records")
    return result


def main(argv: list[str] | None = None) -> int:
    """Print the results table; 0, or 2 with one line about bad input."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Score and print."""
    from icre.evaluation import openset, records
    from icre.evaluation.features import FeatureSet
    from icre.evaluation.rerank import reranker
    from icre.evaluation.rerank_options import from_arguments
    from icre.evaluation.score import score

    choice = from_arguments(args)
    check_output(args.json)
    arguments.import_modules(args)
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
