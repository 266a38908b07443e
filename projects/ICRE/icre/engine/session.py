"""A training or an evaluation from its arguments: check the input, then start the processes."""

import argparse
import logging
from contextlib import nullcontext

import icre.compat.evaluation  # noqa: F401

from fastreid.config import CfgNode

from icre.config import load_config
from icre.data.loader import verify_datasets
from icre.engine.before import check_data
from icre.engine.launch import checks_input, launch, owns_output, restarts
from icre.engine.setup import start_run
from icre.engine.trackers import check_trackers
from icre.engine.trainer import Trainer
from icre.evaluation.records import UNTRAINED
from icre.modeling.pretrained import without_pretrained
from icre.runs import output
from icre.runs.checkpoint import SafeCheckpointer
from icre.runs.resume import check_split
from icre.utils import cli
from icre.utils.device import resolve_device
from icre.utils.errors import UserError
from icre.utils.lock import locked

logger = logging.getLogger("fastreid.icre")


def check(args: argparse.Namespace, cfg: CfgNode | None = None) -> CfgNode:
    """Find every fault of the input that can be found before a process or a log is started.

    Args:
        args: `config_file`, `opts`, `eval_only`, `resume` and `untrained`.
        cfg: the config, if it has been loaded.
    """
    cfg = cfg or load_config(args.config_file, args.opts)
    resolve_device(cfg.MODEL.DEVICE)
    if not checks_input():
        return cfg
    untrained = getattr(args, "untrained", False)
    if untrained and not args.eval_only:
        raise UserError("--untrained goes with --eval-only")
    if restarts() and not (args.resume or args.eval_only):
        raise UserError(
            "torchrun --max-restarts: add --resume, by which a restart goes on from the last "
            "checkpoint (the first start finds none and begins)"
        )
    if args.eval_only:
        output.check_evaluation(cfg, untrained)
        check_data(cfg, train=False)
    else:
        check_trackers(cfg)
        output.require_fresh(cfg, args.resume)
        people = check_data(cfg, train=True)
        if args.resume:
            output.check_resumed(cfg, people)
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
    cfg = load_config(args.config_file, args.opts)
    with locked(cfg.OUTPUT_DIR) if owns_output(args) else nullcontext():
        cfg = check(args, cfg)
        launch(work, args, cfg.DIST_TIMEOUT, cfg.MODEL.DEVICE)


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
    cfg = without_pretrained(cfg)  # MODEL.WEIGHTS holds the whole model
    cfg.freeze()
    model = Trainer.build_model(cfg)
    checkpointer = SafeCheckpointer(model)
    checkpoint = checkpointer.load(cfg.MODEL.WEIGHTS, checkpointables=[], classifier=False)
    check_split(cfg, checkpoint, cfg.MODEL.WEIGHTS)
    finished = checkpoint["epoch"] + 1 if "epoch" in checkpoint else None
    if not cfg.MODEL.WEIGHTS:
        logger.warning("MODEL.WEIGHTS is empty: scoring initial weights, as --untrained asks")
    Trainer.test(
        cfg,
        model,
        epoch=finished,
        weights=checkpointer.weights or UNTRAINED,
        steps=checkpoint.get("iteration"),
    )
