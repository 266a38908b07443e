"""The start of a run: output folder, log, seeded generators."""

import argparse
import logging
import sys

import torch

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from fastreid.utils.logger import setup_logger

from icre.runs.output import holds_training
from icre.utils.device import resolve_device, set_precision
from icre.utils.files import replaced
from icre.utils.run_folder import RunFolder

logger = logging.getLogger("fastreid.icre")


def start_run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Open OUTPUT_DIR and its log, write the full config there, seed every generator.

    fast-reid's `default_setup` picks a random seed and overwrites the config of a training run
    when it is only evaluated.
    """
    run = RunFolder(cfg.OUTPUT_DIR)
    if comm.is_main_process():
        run.path.mkdir(parents=True, exist_ok=True)
        keeps = holds_training(run) or run.metrics.is_file()
        if not (getattr(args, "eval_only", False) and run.config.exists() and keeps):
            with replaced(run.config) as temporary:
                temporary.write_text(cfg.dump())
    setup_logger.cache_clear()  # or a second run in this process would write to the first one's log
    logging.getLogger("fastreid").handlers.clear()
    setup_logger(str(run.path), distributed_rank=comm.get_rank())
    for handler in logging.getLogger("fastreid").handlers:
        handler.handleError = lambda record: None  # no traceback per line while the disk is full
        if getattr(handler, "stream", None) is sys.stdout:
            handler.setLevel(logging.INFO)  # debug lines are for the file
    logger.debug("Python %s\n%s", sys.version, torch.__config__.show())
    logger.debug("Arguments: %s\nConfig:\n%s", args, cfg)
    device = resolve_device(cfg.MODEL.DEVICE)
    logger.info("writing to %s; seed %d; device %s", run.path, cfg.SEED, device)
    seed_all_rng(cfg.SEED + comm.get_rank())
    if device.type == "cuda":
        torch.cuda.set_device(device)  # events and random states are of the current one
    set_precision(deterministic=cfg.SOLVER.DETERMINISTIC, search=cfg.CUDNN_BENCHMARK)
