"""Features of a test set by a checkpoint or an exported file: tools/extract_features.py."""

import argparse
from pathlib import Path

import torch

import icre.compat

from fastreid.config import CfgNode
from fastreid.utils import comm

import icre.engine  # noqa: F401
from icre.data.loader import build_test_loader, load_dataset, verify_datasets
from icre.engine.checkpoint import SafeCheckpointer, refuse_other_split
from icre.engine.launch import add_arguments, checks_input, launch
from icre.engine.setup import load_config, resolve_device
from icre.engine.trainer import Trainer
from icre.evaluation.evaluator import FeatureCollector
from icre.evaluation.extraction import run_inference
from icre.export.formats import Exported
from icre.utils import cli
from icre.utils.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Write the features of DATASETS.TESTS as an .npz that score_features.py reads; "
        "for any fast-reid model."
    )
    result.add_argument("--config-file", required=True, metavar="FILE")
    by = result.add_mutually_exclusive_group(required=True)
    by.add_argument("--weights", metavar="FILE", help="a checkpoint of it")
    by.add_argument(
        "--exported", metavar="DIR_OR_FILE", help="what tools/export.py made of it, in its place"
    )
    result.add_argument("--out", required=True, type=Path, metavar="NPZ")
    add_arguments(result)
    result.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    cfg = _config(args)
    if args.out.suffix != ".npz":
        raise UserError(f"--out {args.out}: features are saved as .npz, name the file so")
    if len(cfg.DATASETS.TESTS) != 1:
        raise UserError(f"DATASETS.TESTS is {cfg.DATASETS.TESTS}: name one data set")
    if checks_input():
        verify_datasets(cfg, train=False)
    launch(work, args, cfg.DIST_TIMEOUT)


def work(args: argparse.Namespace) -> None:
    """One process: its share of the images; the first one writes what all have found."""
    cfg = _config(args)
    data = load_dataset(cfg, cfg.DATASETS.TESTS[0])
    if args.exported:
        model, checkpoint = _exported(cfg, args.exported)
        device, flip = torch.device("cpu"), False  # a file flips by itself
    else:
        model = Trainer.build_model(cfg)
        checkpoint = SafeCheckpointer(model).load(args.weights, checkpointables=[])
        device, flip = resolve_device(cfg.MODEL.DEVICE), cfg.TEST.FLIP.ENABLED
    refuse_other_split(cfg, checkpoint, args.weights or args.exported)
    root = getattr(data, "folder", Path(cfg.DATASETS.ROOT))
    loader, collector = build_test_loader(cfg, data), FeatureCollector(root)
    run_inference(model, loader, collector, device, flip)
    if comm.is_main_process():
        collector.features.save(args.out)
        print(
            f"{args.out}: {len(collector.features)} images, "
            f"{collector.features.features.shape[1]} dimensions"
        )


def _config(args: argparse.Namespace) -> CfgNode:
    return load_config(args.config_file, [*args.opts, "MODEL.BACKBONE.PRETRAIN", "False"])


def _exported(cfg: CfgNode, path: str) -> tuple[Exported, dict]:
    """The file as a model, and of its checkpoint what `refuse_other_split` reads."""
    model = Exported(path)
    if model.size != tuple(cfg.INPUT.SIZE_TEST) or cfg.INPUT.CROP.ENABLED:
        raise UserError(
            f"{model.files[0]} takes images of {list(model.size)} (height, width) without a "
            f"crop, not INPUT.SIZE_TEST {list(cfg.INPUT.SIZE_TEST)}: name its own config"
        )
    split = model.about.get("regdb_split")
    return model, {"regdb_split": int(split) if split else None}
