"""What a run's data sets, protocols and scores need, checked before its first step."""

import functools
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.data.loader import require_modalities
from icre.datasets import load_dataset, name_in_features
from icre.datasets.base import SETS
from icre.evaluation.features import FeatureSet
from icre.evaluation.trials import build_trials
from icre.runs.resume import identities
from icre.utils.errors import UserError
from icre.utils.run_folder import RunFolder

FEWEST = 10  # gallery images: fast-reid's evaluator reports Rank-10
LONGEST = 50  # its longest ranking list


def check_data(cfg: CfgNode, train: bool) -> dict[str, Any] | None:
    """Check the data sets of a run; returns `identities` of its training set (None: no training).

    Args:
        cfg: DATASETS.NAMES (with `train`), DATASETS.TESTS and TEST are read.
        train: whether it trains.

    Raises:
        UserError: names the data set, file, protocol or key.
    """
    tested = list(cfg.DATASETS.TESTS)
    both = [name for name in cfg.DATASETS.NAMES if name in tested]
    if cfg.DATASETS.COMBINEALL and both:
        raise UserError(
            f"DATASETS.COMBINEALL True trains on the test identities of {both[0]}, which "
            "DATASETS.TESTS scores: set it False, or test another data set"
        )
    load = functools.cache(functools.partial(load_dataset, cfg))
    people = _check_training_sets(cfg, load) if train else None
    splits = {cfg.TEST.SPLIT == "val", *([True] if train and cfg.DATASETS.VALIDATION else [])}
    for name in tested:
        for held_out in sorted(splits):
            _check_test_set(cfg, name, load(name, held_out), official=not held_out)
    return people


def _check_training_sets(cfg: CfgNode, load: Callable[[str, bool], Any]) -> dict[str, Any]:
    items: list[tuple] = []
    if not cfg.DATASETS.NAMES:
        raise UserError("DATASETS.NAMES is empty: name the training sets, such as ('SYSUMM01',)")
    for name in cfg.DATASETS.NAMES:
        data = load(name, cfg.DATASETS.VALIDATION)
        if not data.train:
            raise UserError(f"data set {name} below {cfg.DATASETS.ROOT} has no training image")
        require_modalities(cfg, data, data.train)
        items += data.train
    return identities(items)


def _check_test_set(cfg: CfgNode, name: str, data: Any, official: bool) -> None:
    """Refuse a test set that cannot be scored.

    Args:
        official: the official gallery sampling is used where the data set has one.
    """
    for side in ("query", "gallery"):
        if not getattr(data, side):
            raise UserError(f"data set {name} below {cfg.DATASETS.ROOT} has no {side} image")
    items = data.query + data.gallery
    require_modalities(cfg, data, items)
    try:
        if hasattr(data, "layout"):
            _check_protocols(cfg, data, items, official)
        else:
            _check_evaluator(data.query, data.gallery)
    except UserError as error:
        raise UserError(f"data set {name}: {error}") from None


def _check_protocols(cfg: CfgNode, data: Any, items: list[tuple], official: bool) -> None:
    """Make the trials of all protocols, as scoring does after the last epoch."""
    name = name_in_features(data)
    if not name and data.layout not in SETS:
        raise UserError(
            f"no data set with layout {data.layout!r} is registered, so it has no protocols: "
            "decorate its class with icre.datasets.base.register_set"
        )
    paths, pids, camids = zip(*items)
    features = FeatureSet(
        np.ones((len(items), 1), np.float32),
        np.array(pids),
        np.array(camids),
        np.array([data.modality_of(path) for path in paths]),
        np.array([Path(path).relative_to(data.folder).as_posix() for path in paths]),
        name,
    )
    if features.layout != data.layout:
        raise UserError(
            f"its images, such as {features.paths[0]}, are not in its layout, {data.layout}, but "
            f"in {features.layout or 'none'}: correct parse_path of its class"
        )
    file = getattr(data, "permutation_file", None) if official else None
    permutation = file if file and file.is_file() else None
    ordered, chosen = build_trials(features, list(cfg.TEST.PROTOCOLS) or None, perm=permutation)
    for trials in chosen:
        for query, gallery in trials.rows():
            if not np.isin(ordered.pids[query], ordered.pids[gallery]).any():
                raise UserError(f"{trials.name}: no query's identity is in the gallery")


def _check_evaluator(query: Sequence[tuple], gallery: Sequence[tuple]) -> None:
    """What fast-reid's evaluator needs (fastreid/evaluation/reid_evaluation.py)."""
    for path, *labels in (*query, *gallery):
        if not all(isinstance(label, (int, np.integer)) for label in labels):
            raise UserError(f"labels of the test image {path} are {labels}: they must be integers")
    if len(gallery) < FEWEST:
        raise UserError(f"it has {len(gallery)} gallery images; Rank-10 needs at least {FEWEST}")
    shot = Counter((pid, camid) for _, pid, camid in gallery)
    people = Counter(pid for _, pid, _ in gallery)
    # of a query's gallery, images of its own identity and camera are left out
    left = {
        len(gallery) - shot[pid, camid] for _, pid, camid in query if people[pid] > shot[pid, camid]
    }
    if not left:
        raise UserError(
            "no query's identity is in the gallery from another camera: nothing can be scored"
        )
    # its rows are as long as a query's gallery, at most 50 (fastreid/evaluation/rank.py:129)
    rows = {min(count, len(gallery), LONGEST) for count in left}
    if len(rows) > 1 or min(rows) < FEWEST:
        raise UserError(
            f"it has {len(gallery)} gallery images, which leave {min(rows)} to one query and "
            f"{max(rows)} to another; fast-reid's evaluator needs {LONGEST} for each"
        )


def check_space(cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Refuse to train where the disk cannot hold the checkpoints.

    Raises:
        UserError: names the folder, the room there is and the room that is needed.
    """
    run, solver = RunFolder(cfg.OUTPUT_DIR), cfg.SOLVER
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    trained = sum(
        parameter.numel() * parameter.element_size()
        for group in optimizer.param_groups
        for parameter in group["params"]
    )
    size = weights + _moments(optimizer) * trained
    numbered = (solver.MAX_EPOCH - 1) // max(solver.CHECKPOINT_PERIOD, 1)
    # the kept ones, the one that is being written, model_final and model_best
    files = solver.CHECKPOINT_KEEP + 2 + bool(cfg.DATASETS.VALIDATION) + numbered
    present = sum(file.stat().st_size for file in run.path.glob("*.pth"))
    needed, free = files * size - present, shutil.disk_usage(run.path).free
    if needed > free:
        raise UserError(
            f"OUTPUT_DIR {run.path} has {free / 2**30:.2f} GiB of room, {files} checkpoints of "
            f"{size / 2**30:.2f} GiB need {needed / 2**30:.2f}: make room, raise "
            f"SOLVER.CHECKPOINT_PERIOD {solver.CHECKPOINT_PERIOD}, or lower "
            f"SOLVER.CHECKPOINT_KEEP {solver.CHECKPOINT_KEEP}"
        )


def _moments(optimizer: torch.optim.Optimizer) -> int:
    """Tensors of a parameter's size that an optimiser keeps for each."""
    if isinstance(optimizer, torch.optim.SGD):
        return int(any(group["momentum"] for group in optimizer.param_groups))
    return 2
