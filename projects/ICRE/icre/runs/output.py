"""What OUTPUT_DIR holds already, and whether a run may write into it."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.evaluation.records import UNTRAINED
from icre.runs.checkpoint import read_checkpoint, resumable, training_config
from icre.runs.resume import FREE, changed_key, require_same_run
from icre.utils.checksum import content_hash
from icre.utils.errors import UserError
from icre.utils.files import read_json
from icre.utils.run_folder import RunFolder
from icre.utils.yaml import read_yaml

# Keys that an evaluation in a run's own folder may change; SOLVER.* has no effect on it.
FREE_IN_TESTS = (
    *(key for key in FREE if key not in ("DATASETS.ROOT", "DATASETS.TESTS", "INPUT.SIZE_TEST")),
    "SOLVER.",
    "MODEL.LOSSES.",
    "DATASETS.NAMES",
    "DATALOADER.",
    "INPUT.BATCHED",
    "INPUT.SIZE_TRAIN",
)
# Keys that have no effect on a run's scores.
FREE_IF_KEPT = (
    "OUTPUT_DIR",
    "DATASETS.ROOT",
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",
    "MODEL.BACKBONE.PRETRAIN_PATH",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.CACHE_GB",
    "DATALOADER.TIMEOUT",
    "SOLVER.CHECKPOINT_",
    "TEST.EVAL_PERIOD",
    "TEST.IMS_PER_BATCH",
    "CUDNN_BENCHMARK",
    "DIST_TIMEOUT",
    "TRACKERS",
)
ANOTHER = "name another OUTPUT_DIR"


def holds_training(run: RunFolder) -> bool:
    """Whether a training has begun in the folder: it has a checkpoint, losses or scores."""
    begun = (run.scalars, run.validation)
    return bool(list(run.path.glob("model_*.pth"))) or any(
        file.is_file() and file.stat().st_size for file in begun
    )


def require_fresh(cfg: CfgNode, resume: bool) -> None:
    """Refuse to begin a run in a folder with another run's files.

    Args:
        resume: the run in it is to be continued.

    Raises:
        UserError: names --resume and another OUTPUT_DIR.
    """
    run = RunFolder(cfg.OUTPUT_DIR)
    if not resume and (holds_training(run) or run.metrics.is_file()):
        raise UserError(
            f"OUTPUT_DIR {run.path} holds the files of a run: continue it with --resume, or "
            f"{ANOTHER}"
        )


def check_resumed(cfg: CfgNode, people: dict[str, Any] | None) -> None:
    """Refuse to continue a run under another config or with other identities.

    Args:
        people: `icre.runs.resume.identities` of the training set.

    Raises:
        UserError: see `require_same_run`; the newest checkpoint's fault where none can be read.
    """
    fault = None
    for file in resumable(cfg.OUTPUT_DIR):
        try:
            checkpoint = read_checkpoint(file)
        except UserError as error:
            fault = fault or error
            continue  # the run goes on from the one before, with a warning
        require_same_run(cfg, checkpoint, str(file), people)
        return
    if fault:
        raise fault


def check_evaluation(cfg: CfgNode, untrained: bool) -> None:
    """Refuse an evaluation without weights, and one that would replace another model's scores.

    Args:
        untrained: whether initial weights are to be scored.

    Raises:
        UserError: says what the folder holds and names the cure.
    """
    run, weights = RunFolder(cfg.OUTPUT_DIR), cfg.MODEL.WEIGHTS
    if not weights and not untrained:
        raise UserError(
            "--eval-only: MODEL.WEIGHTS is empty: name the checkpoint to score, or add --untrained "
            "to score initial weights"
        )
    if weights and untrained:
        raise UserError(f"--untrained: MODEL.WEIGHTS is {weights}; leave one of them out")
    if weights and not os.path.isfile(weights):
        raise UserError(f"checkpoint {weights} is missing: set MODEL.WEIGHTS to an existing file")
    if holds_training(run):
        _require_own_weights(cfg, run, weights)
    elif run.metrics.is_file():
        known = _scored_weights(run.metrics)
        if known and known != {_hash(weights) if weights else UNTRAINED}:
            raise UserError(
                f"OUTPUT_DIR {run.path} holds the scores of other weights than "
                f"{weights or 'untrained ones'}: {ANOTHER}"
            )
        _require_own_config(cfg, run, _stored_config(run))


def check_kept(cfg: CfgNode) -> None:
    """Refuse to take a finished run's scores for those of another config; raises UserError."""
    run = RunFolder(cfg.OUTPUT_DIR)
    _require_own_config(cfg, run, _stored_config(run), FREE_IF_KEPT)


def _require_own_weights(cfg: CfgNode, run: RunFolder, weights: str) -> None:
    """The folder of a training takes the scores of its own result, under its own config."""
    if not run.result.is_file():
        raise UserError(
            f"OUTPUT_DIR {run.path} holds a training that has not ended: let it end with --resume, "
            f"or {ANOTHER}"
        )
    same = weights and (
        os.path.samefile(weights, run.result) or _hash(weights) == _hash(run.result)
    )
    if not same:
        raise UserError(
            f"OUTPUT_DIR {run.path} holds a finished run, whose scores are those of "
            f"{run.result.name}, not of {weights or 'untrained weights'}: {ANOTHER}"
        )
    old = _stored_config(run) or training_config(read_checkpoint(run.result))
    _require_own_config(cfg, run, old)


def _stored_config(run: RunFolder) -> dict[str, Any]:
    """What a folder's config.yaml holds, nested; empty if there is none."""
    return (read_yaml(run.config) if run.config.is_file() else None) or {}


def _require_own_config(
    cfg: CfgNode, run: RunFolder, old: dict[str, Any], free: Sequence[str] = FREE_IN_TESTS
) -> None:
    changed = changed_key(old, yaml.safe_load(cfg.dump()), free)
    if changed:
        key, before, now = changed
        raise UserError(
            f"OUTPUT_DIR {run.path} holds the scores of a run with {key} {before}, not {now}: set "
            f"it back, or {ANOTHER}"
        )


def _hash(weights: str | Path) -> str:
    return content_hash(read_checkpoint(weights)["model"])


def _scored_weights(metrics: Path) -> set[str]:
    """The field `weights` of a folder's records; empty where they do not say."""
    try:
        found = read_json(metrics)
    except UserError:
        return set()
    records: Iterable = found if isinstance(found, list) else ()
    return {one["weights"] for one in records if isinstance(one, dict) and one.get("weights")}
