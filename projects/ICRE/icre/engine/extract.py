"""Features of a test set from a config and a checkpoint: tools/extract_features.py."""

import argparse
from pathlib import Path

import icre.engine  # noqa: F401  (registration)
from icre import cli
from icre.data.loader import build_test_loader, load_dataset, verify_datasets
from icre.engine.checkpoint import SafeCheckpointer, refuse_other_split
from icre.engine.inference import run_inference
from icre.engine.setup import load_config, resolve_device
from icre.engine.trainer import Trainer
from icre.errors import UserError
from icre.evaluation.evaluator import FeatureCollector


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Write the features of DATASETS.TESTS as an .npz that score_features.py reads; "
        "for any fast-reid model."
    )
    result.add_argument("--config-file", required=True, metavar="FILE")
    result.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint of it")
    result.add_argument("--out", required=True, type=Path, metavar="NPZ")
    result.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file, [*args.opts, "MODEL.BACKBONE.PRETRAIN", "False"])
    if args.out.suffix != ".npz":
        raise UserError(f"--out {args.out}: features are saved as .npz, name the file so")
    if len(cfg.DATASETS.TESTS) != 1:
        raise UserError(f"DATASETS.TESTS is {cfg.DATASETS.TESTS}: name one data set")
    data = load_dataset(cfg, cfg.DATASETS.TESTS[0])
    verify_datasets(cfg, train=False)
    model = Trainer.build_model(cfg)
    checkpoint = SafeCheckpointer(model).load(args.weights, checkpointables=[])
    refuse_other_split(cfg, checkpoint, args.weights)
    root = getattr(data, "folder", Path(cfg.DATASETS.ROOT))
    loader, collector = build_test_loader(cfg, data), FeatureCollector(root)
    device = resolve_device(cfg.MODEL.DEVICE)
    run_inference(model, loader, collector, device, cfg.TEST.FLIP.ENABLED)
    collector.features.save(args.out)
    print(f"{args.out}: {len(collector.features)} images, "
          f"{collector.features.features.shape[1]} dimensions")
