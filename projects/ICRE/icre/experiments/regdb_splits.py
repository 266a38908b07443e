"""RegDB's ten splits, one after another or on a cluster, and their mean."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.cluster.connect import connected
from icre.config import load_config
from icre.engine import session
from icre.evaluation import records
from icre.evaluation.records import METRICS
from icre.experiments.jobs import Job, run_jobs
from icre.experiments.ray_jobs import RayRunner
from icre.runs.output import check_kept
from icre.utils.errors import RunEnded, UserError
from icre.utils.files import read_json
from icre.utils.run_folder import RunFolder

SPLITS = tuple(range(1, 11))


def run_splits(
    args: argparse.Namespace, splits: Sequence[int] = SPLITS, cluster: str | None = None
) -> list[dict]:
    """Train (with `args.eval_only` score) each split in OUTPUT_DIR/split_<k>, and average them.

    Finished splits are kept, if their config is this one. The means go to OUTPUT_DIR/metrics.json.

    Args:
        args: of icre.commands.train.
        splits: numbers from 1 to 10.
        cluster: address of a Ray cluster that runs them, see `icre.cluster.connect.connected`;
            None: they run here, one after another.

    Returns:
        One record per protocol, see `over_splits`.

    Raises:
        UserError: no such split, the config's test set is not RegDB, or a finished split has
            another config.
        RunEnded: a split failed on the cluster.
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
    if cluster:
        _run_on_cluster(args, cfg, splits, cluster)
    else:
        for split in splits:
            _run_here(args, output, split)
    total = over_splits([read_json(_files(output, split).metrics) for split in splits])
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
    if not (files.config.is_file() and files.result.is_file() and files.metrics.is_file()):
        return False
    cfg = load_config(str(files.config))
    return records.of_whole_training(read_json(files.metrics), cfg)


def _is_left(args: argparse.Namespace, output: Path, split: int) -> bool:
    """Whether a split is to be trained or scored."""
    return args.eval_only or not _is_finished(_files(output, split))


def _all_options(args: argparse.Namespace, output: Path, split: int) -> list[str]:
    weights = ["MODEL.WEIGHTS", str(_files(output, split).weights)] if args.eval_only else []
    return [*args.opts, *_options(output, split), *weights]


def _run_here(args: argparse.Namespace, output: Path, split: int) -> None:
    """Train a split unless it has finished, or score it."""
    if not _is_left(args, output, split):
        return
    changed = {"resume": not args.eval_only, "opts": _all_options(args, output, split)}
    session.run(argparse.Namespace(**{**vars(args), **changed}))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _run_on_cluster(
    args: argparse.Namespace, cfg: CfgNode, splits: Sequence[int], address: str
) -> None:
    """Train or score the splits that are left, as jobs of a Ray cluster."""
    if args.num_gpus != 1 or args.num_machines != 1:
        raise UserError("--num-gpus and --num-machines: with --cluster each split has one GPU")
    output = Path(cfg.OUTPUT_DIR)
    words = ["--config-file", args.config_file, "--eval-only" if args.eval_only else "--resume"]
    jobs = [
        Job(
            f"split {split}",
            (*words, *_all_options(args, output, split)),
            _files(output, split),
            cfg.SOLVER.MAX_EPOCH,
        )
        for split in splits
        if _is_left(args, output, split)
    ]
    if not jobs:
        return
    done = cfg.SOLVER.MAX_EPOCH * (len(splits) - len(jobs))
    with connected(address, output, cfg.MODEL.DEVICE) as cluster:
        ended = run_jobs(RayRunner(cluster), jobs, "splits", done)
        failed = [job for job, status in ended if status]
    if failed:
        raise RunEnded(
            f"{len(failed)} of {len(jobs)} splits failed, such as {failed[0].name}: see "
            f"{failed[0].console}; the same command goes on"
        )
