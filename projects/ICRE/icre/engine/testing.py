"""Scoring a model on data sets: the log, the records and the files of a run folder."""

import logging
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import nn

import icre.compat.evaluation  # noqa: F401

from fastreid.config import CfgNode
from fastreid.utils import comm
from fastreid.utils.events import get_event_storage

from icre.datasets import name_in_features
from icre.evaluation import records
from icre.evaluation.evaluator import ProtocolEvaluator
from icre.evaluation.extraction import run_inference
from icre.evaluation.rerank import reranker
from icre.evaluation.rerank_options import reranking
from icre.modeling.head import all_test_features
from icre.plots.ranking import save_rankings
from icre.runs.checkpoint import weights_hash
from icre.utils.device import resolve_device
from icre.utils.run_folder import RunFolder

if TYPE_CHECKING:
    from fastreid.engine import DefaultTrainer

logger = logging.getLogger("fastreid.icre")


def score_model(
    trainer: "type[DefaultTrainer]", cfg: CfgNode, model: nn.Module, **labels: Any
) -> tuple[OrderedDict, list[dict]]:
    """Score a model on DATASETS.TESTS by the evaluators of `trainer.build_evaluator`.

    Args:
        trainer: class whose `build_evaluator` is called.
        cfg: TEST.SPLIT says which identities are scored.
        model: DDP or plain.
        labels: fields of the records that the caller knows: epoch and steps that are finished,
            weights (else the checksum of the model's weights).

    Returns:
        fast-reid's results (a dict of floats with the key `metric`, or one such dict per data set
        if there are several; empty on other ranks than the first), and the result records.
    """
    results: OrderedDict = OrderedDict()
    scored: list[dict] = []
    device = resolve_device(cfg.MODEL.DEVICE)
    for name in cfg.DATASETS.TESTS:
        loader, evaluator = trainer.build_evaluator(cfg, name)
        own = isinstance(evaluator, ProtocolEvaluator)
        if own:
            if "weights" not in labels and comm.is_main_process():
                labels["weights"] = weights_hash(model)
            evaluator.labels |= labels
        with all_test_features(model) if own else nullcontext():
            results[name] = run_inference(model, loader, evaluator, device, cfg.TEST.FLIP.ENABLED)
        if not comm.is_main_process():
            continue
        if not own:
            lines = "\n".join(f"{key}: {value:.2f}" for key, value in results[name].items())
            logger.info("%s, by %s:\n%s", name, type(evaluator).__name__, lines)
            continue
        held_out = ", held-out training identities" if cfg.TEST.SPLIT == "val" else ""
        logger.info("%s%s\n%s", name, held_out, records.table(evaluator.records))
        scored += evaluator.records
        if cfg.TEST.SPLIT == "test":
            save_test_files(cfg, name, evaluator)
    return (results if len(results) > 1 else next(iter(results.values()), results)), scored


def protocol_evaluator(cfg: CfgNode, data: Any) -> ProtocolEvaluator:
    """The evaluator of a data set's own protocols; TEST.SPLIT val: on held-out identities."""
    validation = cfg.TEST.SPLIT == "val"
    return ProtocolEvaluator(
        data.folder,
        cfg.TEST.PROTOCOLS,
        # held-out identities have no official gallery sampling
        None if validation else getattr(data, "permutation_file", None),
        device=resolve_device(cfg.MODEL.DEVICE),
        dataset=name_in_features(data),
        feature=cfg.MODEL.HEADS.TEST_FEAT,
        score_others=not validation,
        seed=cfg.SEED,
        flip=cfg.TEST.FLIP.ENABLED,
        split="val" if validation else getattr(data, "split", None),
        # an epoch is chosen by the plain metrics, so the others would only take time
        reranker=None if validation else reranker(reranking(cfg)),
    )


def save_test_files(cfg: CfgNode, name: str, evaluator: ProtocolEvaluator) -> None:
    """Write the features of data set `name` and the picture of its ranking lists."""
    run, suffix = RunFolder(cfg.OUTPUT_DIR), "" if len(cfg.DATASETS.TESTS) == 1 else name
    evaluator.features.save(run.features(suffix))
    picture = run.ranking(suffix)
    save_rankings(
        evaluator.features,
        evaluator.records[0],
        evaluator.root,
        evaluator.permutation_file,
        picture,
    )
    _show_in_tensorboard(f"ranking/{name}", picture)
    logger.info("ranking lists: %s", picture)


def _show_in_tensorboard(name: str, path: Path) -> None:
    """Add an image file to the run's TensorBoard events; no effect outside of training."""
    try:
        storage = get_event_storage()
    except AssertionError:  # fast-reid's way to say that nothing is being trained
        return
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    storage.put_image(name, pixels.transpose(2, 0, 1).copy())
