"""RegDB's ten splits in one command: tools/regdb_splits.py."""

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import torch

import icre.engine  # noqa: F401
from icre.commands import train as train_net
from icre.config import load_config
from icre.evaluation import records
from icre.evaluation.records import FIGURES
from icre.utils import cli
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")
SPLITS = tuple(range(1, 11))


def parser() -> argparse.ArgumentParser:
    """train_net's arguments and `--splits`."""
    result = train_net.parser()
    result.description = (
        "Train (or with --eval-only score) RegDB's splits one after another in "
        "OUTPUT_DIR/split_<k>, and report mean and standard deviation over the splits. Run it "
        "again to go on where it was stopped: finished splits are kept."
    )
    result.add_argument(
        "--splits",
        type=int,
        nargs="+",
        default=SPLITS,
        metavar="K",
        help="default: all ten, as published figures need",
    )
    return result


def over_splits(per_split: list[list[dict]]) -> list[dict]:
    """One record per protocol: mean and population standard deviation over the splits.

    Args:
        per_split: the records of each split's metrics.json, the same protocols in each.

    Raises:
        UserError: the splits were not scored by the same protocols and re-rankings.
    """
    names = [[(record["protocol"], record["rerank"]) for record in one] for one in per_split]
    if any(one != names[0] for one in names):
        raise UserError(f"the splits were scored by different protocols or re-rankings: {names}")
    return [_mean(rows) for rows in zip(*per_split)]


def _mean(rows: tuple[dict, ...]) -> dict:
    result = {**rows[0], "trials": len(rows), "std_over": "splits", "split": None}
    for figure in FIGURES:
        values = np.array([row[figure]["mean"] for row in rows])
        result[figure] = {"mean": float(values.mean()), "std": float(values.std())}
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    unknown = [split for split in args.splits if split not in SPLITS]
    if unknown:
        raise UserError(f"--splits {unknown[0]}: RegDB's splits are 1 to 10")
    cfg = load_config(args.config_file, args.opts)
    if cfg.DATASETS.TESTS != ("RegDB",):
        raise UserError(f"DATASETS.TESTS is {cfg.DATASETS.TESTS}; this command is for ('RegDB',)")
    output = Path(cfg.OUTPUT_DIR)
    per_split = [_one_split(args, output / f"split_{split}", split) for split in args.splits]
    total = over_splits(per_split)
    records.save(total, output / "metrics.json")
    print(f"RegDB, splits {', '.join(map(str, args.splits))}: {output / 'metrics.json'}")
    print(records.table(total))


def _one_split(args: argparse.Namespace, output: Path, split: int) -> list[dict]:
    """Train what is not yet finished; returns the split's records."""
    final, metrics = output / "model_final.pth", output / "metrics.json"
    if args.eval_only or not (final.is_file() and metrics.is_file()):
        options = ["DATASETS.REGDB_SPLIT", str(split), "OUTPUT_DIR", str(output)]
        flags = ["--resume"]
        if args.eval_only:
            flags, options = ["--eval-only"], [*options, "MODEL.WEIGHTS", str(final)]
        train_net.run(
            train_net.parser().parse_args(
                [
                    "--config-file",
                    args.config_file,
                    "--num-gpus",
                    str(args.num_gpus),
                    *flags,
                    *args.opts,
                    *options,
                ]
            )
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return json.loads(metrics.read_text())
