"""The command behind tools/train_net.py."""

import argparse

import icre.compat

from fastreid.config import CfgNode
from fastreid.engine import default_argument_parser

import icre.engine  # noqa: F401
from icre.data.loader import verify_datasets
from icre.engine.checkpoint import SafeCheckpointer, refuse_other_split
from icre.engine.launch import checks_input, launch
from icre.engine.setup import load_config, resolve_device, start_run
from icre.engine.trainer import Trainer
from icre.utils import cli


def parser() -> argparse.ArgumentParser:
    """fast-reid's arguments; `--dist-url` picks a free port by default."""
    result = default_argument_parser()
    result.description = "Train, resume (--resume) or evaluate (--eval-only MODEL.WEIGHTS FILE)."
    result.set_defaults(dist_url="auto")
    return result


def work(args: argparse.Namespace) -> None:
    """One process of a run; fast-reid's `main(args)`."""
    with cli.disk_faults():
        _work(args)


def _work(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file, args.opts)
    start_run(cfg, args)
    if args.eval_only:
        cfg.defrost()
        cfg.MODEL.BACKBONE.PRETRAIN = False  # MODEL.WEIGHTS holds all of the model
        cfg.freeze()
        model = Trainer.build_model(cfg)
        extra = SafeCheckpointer(model).load(cfg.MODEL.WEIGHTS, checkpointables=[])
        refuse_other_split(cfg, extra, cfg.MODEL.WEIGHTS)
        finished = extra["epoch"] + 1 if "epoch" in extra else None
        Trainer.test(cfg, model, epoch=finished)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()


def check(args: argparse.Namespace) -> CfgNode:
    """Find every fault of the input that can be found before a process or a log is started."""
    cfg = load_config(args.config_file, args.opts)
    resolve_device(cfg.MODEL.DEVICE)
    if checks_input():
        verify_datasets(cfg, train=not args.eval_only)
    return cfg


def run(args: argparse.Namespace) -> None:
    """Check, then launch; raises UserError on bad input."""
    launch(work, args, check(args).DIST_TIMEOUT)


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, and bad input ends in one line."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))
