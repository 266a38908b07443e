"""Score features of any model under the test protocols: tools/score_features.py."""

import argparse
import sys

from icre.commands import arguments
from icre.utils import cli
from icre.utils.errors import UserError
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
    result.add_argument(
        "--calibrate-on",
        metavar="PEOPLE",
        help="features of people who are not tested, such as tools/extract_features.py ... "
        "TEST.SPLIT val writes: rank by similarities that are comparable between the pairs of "
        "modalities, for the protocols i2mixed and v2mixed",
    )
    result.add_argument(
        "--calibration",
        choices=("logistic", "z-norm", "centring"),
        help="how, see icre.evaluation.calibration (logistic)",
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
    from icre.evaluation.calibration import METHODS, calibrate
    from icre.evaluation.features import FeatureSet
    from icre.evaluation.rerank import reranker
    from icre.evaluation.rerank_options import from_arguments
    from icre.evaluation.score import score

    choice = from_arguments(args)
    if args.calibration and not args.calibrate_on:
        raise UserError(f"--calibration {args.calibration} needs --calibrate-on PEOPLE")
    check_output(args.json)
    arguments.import_modules(args)
    features = FeatureSet.load(args.features, args.test_ids)
    calibration = None
    if args.calibrate_on:
        calibration = calibrate(
            FeatureSet.load(args.calibrate_on),
            features,
            args.calibration or METHODS[0],
            args.calibrate_on,
        )
    results = score(
        features,
        args.protocol,
        args.draw,
        args.perm,
        device=args.device,
        reranker=reranker(choice),
        calibration=calibration,
        split=args.split,
    )
    print(records.table(results))
    if args.open_set:
        columns = args.protocol, args.draw, args.perm
        table = openset.add_to(results, features, *columns, calibration=calibration)
        print(f"\n{table}")
    if args.json:
        records.save(results, args.json)


if __name__ == "__main__":
    sys.exit(main())
