"""A training or an evaluation from its arguments: check the input, then start the processes."""

import argparse

import icre.compat.evaluation  # noqa: F401

from fastreid.config import CfgNode

from icre.config import load_config
from icre.data.loader import verify_datasets
from icre.engine.checkpoint import SafeCheckpointer
from icre.engine.launch import checks_input, launch
from icre.engine.resume import check_split
from icre.engine.setup import start_run
from icre.engine.trainer import Trainer
from icre.utils import cli
from icre.utils.device import resolve_device


def check(args: argparse.Namespace) -> CfgNode:
    """Find every fault of the input that can be found before a process or a log is started.

    Args:
        args: `config_file`, `opts` and `eval_only`.
    """
    cfg = load_config(args.config_file, args.opts)
    resolve_device(cfg.MODEL.DEVICE)
    if checks_input():
        verify_datasets(cfg, train=not args.eval_only)
    return cfg


def run(args: argparse.Namespace) -> None:
    """Check, then launch.

    Args:
        args: of icre.commands.train.

    Raises:
        UserError: bad input.
        RunEnded: the run was stopped, or a process of it died.
    """
    launch(work, args, check(args).DIST_TIMEOUT)


def work(args: argparse.Namespace) -> None:
    """One process of a run; fast-reid's `main(args)`."""
    with cli.disk_faults():
        cfg = load_config(args.config_file, args.opts)
        start_run(cfg, args)
        if args.eval_only:
            _evaluate(cfg)
            return
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        trainer.train()


def _evaluate(cfg: CfgNode) -> None:
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = False  # MODEL.WEIGHTS holds the whole model
    cfg.freeze()
    model = Trainer.build_model(cfg)
    checkpoint = SafeCheckpointer(model).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    check_split(cfg, checkpoint, cfg.MODEL.WEIGHTS)
    finished = checkpoint["epoch"] + 1 if "epoch" in checkpoint else None
    Trainer.test(cfg, model, epoch=finished)
