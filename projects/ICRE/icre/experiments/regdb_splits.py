"""RegDB's ten splits, one after another, and their mean."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from icre.config import load_config
from icre.engine import session
from icre.evaluation import records
from icre.evaluation.records import METRICS
from icre.runs.output import check_kept
from icre.utils.errors import UserError
from icre.utils.files import read_json
from icre.utils.run_folder import RunFolder

SPLITS = tuple(range(1, 11))


def run_splits(args: argparse.Namespace, splits: Sequence[int] = SPLITS) -> list[dict]:
    """Train (with `args.eval_only` score) each split in OUTPUT_DIR/split_<k>, and average them.

    Finished splits are kept, if their config is this one. The means go to OUTPUT_DIR/metrics.json.

    Args:
        args: of icre.commands.train.
        splits: numbers from 1 to 10.

    Returns:
        One record per protocol, see `over_splits`.

    Raises:
        UserError: no such split, the config's test set is not RegDB, or a finished split has
            another config.
    """
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise UserError(f"--splits {unknown[0]}: RegDB's splits are 1 to 10")
    cfg = load_config(args.config_file, args.opts)
    if cfg.DATASETS.TESTS != ("RegDB",):
        raise UserError(f"DATASETS.TESTS is {cfg.DATASETS.TESTS}; this command is for ('RegDB',)")
    output = Path(cfg.OUTPUT_DIR)
    for split in splits:
        if not args.eval_only and _is_finished(_files(output, split)):
            check_kept(load_config(args.config_file, [*args.opts, *_options(output, split)]))
    total = over_splits([_one_split(args, output, split) for split in splits])
    records.save(total, RunFolder(output).metrics)
    return total


def over_splits(per_split: list[list[dict]]) -> list[dict]:
    """One record per protocol: mean and population standard deviation over the splits.

    Args:
        per_split: the records of each split's metrics.json, the same protocols in each.

    Raises:
        UserError: the splits were not scored by the same protocols, re-rankings and test features.
    """
    names = [
        [(record["protocol"], record["rerank"], record.get("feature")) for record in one]
        for one in per_split
    ]
    if any(one != names[0] for one in names):
        raise UserError(
            f"the splits were scored by different protocols, re-rankings or features: {names}"
        )
    return [_mean(rows) for rows in zip(*per_split)]


def _mean(rows: tuple[dict, ...]) -> dict:
    result = {**rows[0], "trials": len(rows), "std_over": "splits", "split": None, "weights": None}
    for metric in METRICS:
        values = np.array([row[metric]["mean"] for row in rows])
        result[metric] = {"mean": float(values.mean()), "std": float(values.std())}
    return result


def _files(output: Path, split: int) -> RunFolder:
    return RunFolder(output / f"split_{split}")


def _options(output: Path, split: int) -> list[str]:
    files = _files(output, split)
    return ["DATASETS.REGDB_SPLIT", str(split), "OUTPUT_DIR", str(files.path)]


def _is_finished(files: RunFolder) -> bool:
    return files.result.is_file() and files.metrics.is_file()


def _one_split(args: argparse.Namespace, output: Path, split: int) -> list[dict]:
    """Train it unless it has finished, or score it; returns its records."""
    files, options = _files(output, split), _options(output, split)
    changed = {"resume": not args.eval_only}
    if args.eval_only:
        options += ["MODEL.WEIGHTS", str(files.weights)]
    if args.eval_only or not _is_finished(files):
        changed["opts"] = [*args.opts, *options]
        session.run(argparse.Namespace(**{**vars(args), **changed}))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return read_json(files.metrics)
