"""Train or evaluate RegDB's ten splits: tools/regdb_splits.py."""

import argparse

from icre.commands import arguments, train
from icre.utils import cli


def parser() -> argparse.ArgumentParser:
    """The arguments of training, and `--splits`."""
    result = train.parser()
    result.description = (
        "Train (or with --eval-only score) RegDB's splits one after another in "
        "OUTPUT_DIR/split_<k>, and report mean and standard deviation over the splits. Run it "
        "again to continue: finished splits are kept."
    )
    result.add_argument(
        "--splits",
        type=int,
        nargs="+",
        default=list(range(1, 11)),
        metavar="K",
        help="default: all ten, as published results need",
    )
    arguments.add_cluster(result, "run the splits")
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, and bad input ends in one line."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Run the splits and print their means."""
    from icre.evaluation import records
    from icre.experiments.regdb_splits import run_splits

    total = run_splits(args, args.splits, args.cluster)
    print(f"RegDB, splits {', '.join(map(str, args.splits))}:")
    print(records.table(total))
