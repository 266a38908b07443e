"""Write the features of DATASETS.TESTS as an .npz that tools/score_features.py reads."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from icre.commands import arguments
from icre.utils import cli
from icre.utils.errors import UserError
from icre.utils.files import check_output

if TYPE_CHECKING:  # imported where they are used, for a quick --help
    from fastreid.config import CfgNode

    from icre.evaluation.features import FeatureSet


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(description=f"{__doc__} Any fast-reid model will do.")
    arguments.add_config_file(result, required=False)
    model = result.add_mutually_exclusive_group(required=True)
    model.add_argument("--weights", metavar="FILE", help="a checkpoint of the config's model")
    arguments.add_source(model)
    model.add_argument(
        "--exported", metavar="DIR_OR_FILE", help="what tools/export.py wrote of it, instead"
    )
    result.add_argument(
        "--trust-torchscript",
        action="store_true",
        help="open TorchScript (.pt) with --exported: it is a program, which can read and write "
        "files; only for files that you made yourself",
    )
    result.add_argument("--out", required=True, type=Path, metavar="NPZ")
    arguments.add_cluster(result, "compute features")
    arguments.add_workers(result)
    result.add_argument(
        "--shard",
        type=int,
        default=1024,
        metavar="N",
        help="with --cluster: images between two saves (1024); a multiple of TEST.IMS_PER_BATCH "
        "gives the batches, and so the last bits, of a run without",
    )
    arguments.add_launch(result)
    arguments.add_options(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Check the input, then start the processes."""
    from icre.data.loader import verify_datasets
    from icre.engine.launch import checks_input, launch

    cfg = _config(args)
    if args.out.suffix != ".npz":
        raise UserError(f"--out {args.out}: features are saved as .npz, name the file so")
    check_output(args.out)
    if len(cfg.DATASETS.TESTS) != 1:
        raise UserError(f"DATASETS.TESTS is {cfg.DATASETS.TESTS}: name one data set")
    if args.cluster:
        _run_on_cluster(args, cfg)
        return
    if args.workers is not None:
        raise UserError("--workers goes with --cluster")
    if checks_input():
        verify_datasets(cfg, train=False)
    launch(work, args, cfg.DIST_TIMEOUT, cfg.MODEL.DEVICE)


def _config(args: argparse.Namespace) -> "CfgNode":
    """The config of the model: a file's, or that of a public code's checkpoint."""
    from icre.inference.extractor import read_config
    from icre.inference.run import public_config

    if bool(args.config_file) == bool(args.source):
        raise UserError(
            "--source brings the config of its model, --weights and --exported need "
            "--config-file: name either"
        )
    if args.source:
        source, file = args.source
        return public_config(file, source, *args.opts)
    return read_config(args.config_file, *args.opts)


def _run_on_cluster(args: argparse.Namespace, cfg: "CfgNode") -> None:
    from icre.cluster.connect import connected
    from icre.inference.cluster_test_set import extract_on_cluster

    if args.exported:
        raise UserError("--exported: on a cluster name the checkpoint, with --weights")
    if args.num_gpus != 1 or args.num_machines != 1:
        raise UserError("--num-gpus and --num-machines: with --cluster use --workers")
    with connected(args.cluster, args.out.parent, cfg.MODEL.DEVICE) as cluster:
        features = extract_on_cluster(
            cfg, args.weights, args.out, cluster, args.workers, args.shard
        )
    _show(args, features)


def work(args: argparse.Namespace) -> None:
    """One process: computes its share of the images; the first one writes the features of all."""
    from icre.inference.test_set import extract_test_set

    source, weights = args.source or ("", args.weights)
    features = extract_test_set(
        _config(args), weights, args.exported, args.trust_torchscript, source
    )
    if features is not None:
        features.save(args.out)
        _show(args, features)


def _show(args: argparse.Namespace, features: "FeatureSet") -> None:
    cli.show(f"{args.out}: {len(features)} images, {features.features.shape[1]} dimensions")
