"""From command-line arguments to a checked config, a log and seeded generators."""

import argparse
import functools
import logging
import sys
from pathlib import Path

import torch
import yaml

from icre.compat import registered

from fastreid.config import CfgNode, get_cfg
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from fastreid.utils.logger import setup_logger

from icre.config import add_icre_config
from icre.data.dataset import CORRUPT
from icre.datasets.base import VisibleInfraredSet
from icre.datasets.protocol import SEEDED, find
from icre.evaluation.rerank_options import Reranking
from icre.modeling.check import check_model
from icre.modeling.losses import LOSS_REGISTRY
from icre.utils.choice import pick
from icre.utils.errors import UserError
from icre.utils.files import replaced

logger = logging.getLogger("fastreid.icre")


def load_config(config_file: str = "", options: list[str] | None = None) -> CfgNode:
    """fast-reid's defaults, this project's keys, a config file, then KEY VALUE pairs; frozen.

    Raises:
        UserError: missing or malformed file, unknown key, value of the wrong type.
    """
    cfg = get_cfg()
    add_icre_config(cfg)
    defaults = cfg.clone()
    if config_file:
        if not Path(config_file).is_file():
            raise UserError(f"config file {config_file} is missing: see configs/ for those shipped")
        _merge(f"config file {config_file}", cfg.merge_from_file, config_file)
    options = list(options or [])
    if len(options) % 2:
        raise UserError(f"options must be KEY VALUE pairs, {options[-1]!r} stands alone")
    _merge("option", cfg.merge_from_list, options)
    _refuse_empty(cfg, defaults)
    _check(cfg)
    cfg.freeze()
    return cfg


def _refuse_empty(cfg: CfgNode, defaults: CfgNode, above: str = "") -> None:
    """yacs lets a key without a value through, of whatever type it is."""
    for key, default in defaults.items():
        value = cfg.get(key)
        if isinstance(default, CfgNode) and isinstance(value, CfgNode):
            _refuse_empty(value, default, f"{above}{key}.")
        elif value is None and default is not None:
            raise UserError(f"{above}{key} has no value; its default is {default!r}")


METRICS = ("cosine", "euclidean")  # fast-reid's third, jaccard, is re-ranking

# fast-reid ignores an unknown loss and ends in a traceback over any other unknown name.
_REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.HEADS.NAME": REID_HEADS_REGISTRY,
    "MODEL.LOSSES.NAME": LOSS_REGISTRY,
}


def _names(cfg: CfgNode, key: str) -> tuple[str, ...]:
    """The value of a dotted key, as a tuple of names."""
    value = functools.reduce(getattr, key.split("."), cfg)
    return (value,) if isinstance(value, str) else tuple(value)


def _merge(what: str, merge, argument) -> None:
    try:
        merge(argument)
    except (
        KeyError,
        AssertionError,
        ValueError,
        TypeError,
        AttributeError,
        OSError,
        yaml.YAMLError,
    ) as error:
        text = (str(error.args[0] if error.args else error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{what}: {text}") from None


def _check(cfg: CfgNode) -> None:
    """Refuse what fast-reid would ignore or stumble over late."""
    for key, registry in _REGISTRIES.items():
        known = registered(registry)
        for name in _names(cfg, key):
            if name not in known:
                names = ", ".join(sorted(known))
                raise UserError(f"{key}: unknown name {name!r}; known: {names}")
    check_model(cfg)
    for name in cfg.TEST.PROTOCOLS:
        try:
            draws = find(name).draws
        except UserError as error:
            raise UserError(f"TEST.PROTOCOLS: {error}") from None
        if cfg.DATASETS.VALIDATION and draws and SEEDED not in draws:
            raise UserError(
                f"TEST.PROTOCOLS: {name} has an official draw only, which holds no identities of "
                "DATASETS.VALIDATION: leave it out"
            )
    _check_evaluation(cfg)
    if cfg.TEST.PRECISE_BN.ENABLED:
        raise UserError("TEST.PRECISE_BN.ENABLED is not supported by this trainer; set it to False")
    for key, least in (("MAX_EPOCH", 1), ("CHECKPOINT_KEEP", 1), ("CHECKPOINT_ITERS", 0)):
        if cfg.SOLVER[key] < least:
            raise UserError(f"SOLVER.{key} must be at least {least}, got {cfg.SOLVER[key]}")
    pick("DATALOADER.CORRUPT", cfg.DATALOADER.CORRUPT, CORRUPT)


def _check_evaluation(cfg: CfgNode) -> None:
    """fast-reid's evaluator has query expansion, ROC and another metric; the protocols have not."""
    if cfg.TEST.METRIC not in METRICS:
        known = ", ".join(METRICS)
        raise UserError(f"TEST.METRIC: unknown value {cfg.TEST.METRIC!r}; known: {known}")
    sets = registered(DATASET_REGISTRY)
    ours = [n for n in cfg.DATASETS.TESTS if issubclass(sets.get(n, object), VisibleInfraredSet)]
    asked = {
        "TEST.AQE.ENABLED True": cfg.TEST.AQE.ENABLED,
        "TEST.ROC.ENABLED True": cfg.TEST.ROC.ENABLED,
        f"TEST.METRIC {cfg.TEST.METRIC}": METRICS[0] != cfg.TEST.METRIC,
    }
    for key, on in asked.items():
        if on and ours:
            raise UserError(
                f"{key} is for fast-reid's evaluator, but {ours[0]} is scored by its protocols, "
                "which have no such thing: leave it out"
            )
    choice = reranking(cfg)
    if choice and choice.algorithm != "fastreid" and len(ours) < len(cfg.DATASETS.TESTS):
        raise UserError(
            f"TEST.RERANK.ALGORITHM {choice.algorithm}: fast-reid's evaluator, which scores its own "
            "data sets, knows fastreid alone"
        )


def reranking(cfg: CfgNode) -> Reranking | None:
    """TEST.RERANK -> the choice; None where it is off.

    Raises:
        UserError: an unknown algorithm, or a number out of its range.
    """
    node = cfg.TEST.RERANK
    if not node.ENABLED:
        return None
    try:
        return Reranking(node.ALGORITHM, node.K1, node.K2, node.LAMBDA)
    except UserError as error:
        raise UserError(f"TEST.RERANK: {error}") from None


def resolve_device(name: str) -> torch.device:
    """MODEL.DEVICE -> torch device; `auto` is this process's GPU, or the CPU where there is none.

    Raises:
        UserError: a GPU is named and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"MODEL.DEVICE {name}: no usable GPU; set it to auto or cpu")
    return torch.device("cuda", comm.get_local_rank()) if name == "cuda" else torch.device(name)


def start_run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Open OUTPUT_DIR and its log, write the full config there, seed every generator.

    fast-reid's `default_setup` picks a random seed and overwrites the config of a training run
    when it is only evaluated.
    """
    output = Path(cfg.OUTPUT_DIR)
    if comm.is_main_process():
        output.mkdir(parents=True, exist_ok=True)
        if not (getattr(args, "eval_only", False) and (output / "config.yaml").exists()):
            with replaced(output / "config.yaml") as temporary:
                temporary.write_text(cfg.dump())
    setup_logger.cache_clear()  # or a second run in this process would write to the first one's log
    logging.getLogger("fastreid").handlers.clear()
    setup_logger(str(output), distributed_rank=comm.get_rank())
    for handler in logging.getLogger("fastreid").handlers:
        handler.handleError = lambda record: None  # no traceback per line while the disk is full
        if getattr(handler, "stream", None) is sys.stdout:
            handler.setLevel(logging.INFO)  # debug lines are for the file
    logger.debug("Python %s\n%s", sys.version, torch.__config__.show())
    logger.debug("Arguments: %s\nConfig:\n%s", args, cfg)
    device = resolve_device(cfg.MODEL.DEVICE)
    logger.info("writing to %s; seed %d; device %s", output, cfg.SEED, device)
    seed_all_rng(cfg.SEED + comm.get_rank())
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
