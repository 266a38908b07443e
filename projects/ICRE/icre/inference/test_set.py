"""Features of a test set, by a checkpoint or by an exported model."""

from pathlib import Path
from typing import Any

import torch

import icre.compat.evaluation  # noqa: F401

from fastreid.config import CfgNode
from fastreid.utils import comm

from icre.data.loader import build_test_loader
from icre.datasets import load_dataset, name_in_features
from icre.evaluation.evaluator import FeatureCollector
from icre.evaluation.extraction import run_inference
from icre.evaluation.features import FeatureSet
from icre.export.formats import ExportedModel
from icre.modeling.build import build_model
from icre.runs.checkpoint import SafeCheckpointer
from icre.runs.resume import check_split
from icre.utils.device import resolve_device
from icre.utils.errors import UserError


def extract_test_set(
    cfg: CfgNode,
    weights: str | None = None,
    exported: str | None = None,
    trust_torchscript: bool = False,
    source: str = "",
) -> FeatureSet | None:
    """Extract the features of DATASETS.TESTS[0]; each rank computes its share of the images.

    Args:
        cfg: of the model.
        weights: a checkpoint of it.
        exported: what tools/export.py wrote of it, instead of `weights`.
        trust_torchscript: see `ExportedModel`.
        source: name of `icre.runs.public.SOURCES` if a public code wrote `weights`.

    Returns:
        The features, on the first rank; None on the others.

    Raises:
        UserError: a model or a data set that cannot be used, or RegDB's split is not the model's.
    """
    if exported:
        model, checkpoint = open_exported(cfg, exported, trust_torchscript)
        device, flip = torch.device("cpu"), False  # an exported model flips by itself
    else:
        model = build_model(cfg)
        checkpoint = SafeCheckpointer(model).load(
            weights, checkpointables=[], classifier=False, source=source
        )
        device, flip = resolve_device(cfg.MODEL.DEVICE), cfg.TEST.FLIP.ENABLED
    check_split(cfg, checkpoint, weights or exported)
    data = load_dataset(cfg, cfg.DATASETS.TESTS[0], validation=cfg.TEST.SPLIT == "val")
    collector = collector_of(cfg, data)
    run_inference(model, build_test_loader(cfg, data), collector, device, flip)
    return collector.features if comm.is_main_process() else None


def collector_of(cfg: CfgNode, data: Any) -> FeatureCollector:
    """A collector of the features of a data set, whose paths become relative to its folder."""
    return FeatureCollector(
        getattr(data, "folder", Path(cfg.DATASETS.ROOT)), name_in_features(data)
    )


def open_exported(
    cfg: CfgNode, path: str, trust_torchscript: bool = False
) -> tuple[ExportedModel, dict]:
    """Open an exported model, and what `check_split` reads of a checkpoint.

    Raises:
        UserError: it takes images of another size than `cfg`.
    """
    model = ExportedModel(path, trust_torchscript)
    if model.size != tuple(cfg.INPUT.SIZE_TEST) or cfg.INPUT.CROP.ENABLED:
        raise UserError(
            f"{model.files[0]} takes images of {list(model.size)} (height, width) without a "
            f"crop, not INPUT.SIZE_TEST {list(cfg.INPUT.SIZE_TEST)}: name its own config"
        )
    split = model.metadata.get("regdb_split")
    return model, {"regdb_split": int(split) if split else None}
