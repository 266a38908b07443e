"""What a checkpoint holds beside weights, and how a run continues from it."""

import contextlib
import json
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

import icre.compat  # noqa: F401
from icre.compat import registered

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.utils import comm

from icre.datasets.base import VisibleInfraredSet
from icre.utils.errors import UserError
from icre.utils.files import replaced

logger = logging.getLogger("fastreid.icre")


def origin(cfg: CfgNode) -> dict[str, Any]:
    """Entries of a checkpoint that say what it was trained on."""
    split = _split(cfg, cfg.DATASETS.NAMES)
    return {"config": cfg.dump(), "datasets": list(cfg.DATASETS.NAMES), "regdb_split": split}


def check_split(cfg: CfgNode, checkpoint: dict[str, Any], path: str) -> None:
    """Refuse to test on another split of a data set than the checkpoint was trained on.

    Half of the test identities of one RegDB split are training identities of any other.

    Raises:
        UserError: names both splits.
    """
    trained, tested = checkpoint.get("regdb_split"), _split(cfg, cfg.DATASETS.TESTS)
    if tested is not None and trained not in (None, tested):
        raise UserError(
            f"checkpoint {path} was trained on split {trained} of RegDB and knows test identities "
            f"of split {tested}: set DATASETS.REGDB_SPLIT {trained}"
        )


def _split(cfg: CfgNode, names: tuple[str, ...]) -> int | None:
    """The number of the split of the first of these data sets that has several."""
    known = registered(DATASET_REGISTRY)
    sets = [known[name] for name in names if name in known]
    splits = [one.split_of(cfg) for one in sets if issubclass(one, VisibleInfraredSet)]
    return next((split for split in splits if split is not None), None)


def finished_steps(checkpoint: dict[str, Any], path: str, iters_per_epoch: int) -> int:
    """Steps that were finished when a checkpoint was written.

    Raises:
        UserError: they are not of the epoch that it names, or other ranks have read another file.
    """
    finished = checkpoint["epoch"] + 1
    # fast-reid's own checkpoints are of whole epochs
    steps = checkpoint.get("iteration", finished * iters_per_epoch)
    if not finished * iters_per_epoch <= steps < (finished + 1) * iters_per_epoch:
        raise UserError(
            f"checkpoint {path} is of step {steps} in epoch {finished + 1}, which is impossible "
            f"with {iters_per_epoch} steps an epoch: set SOLVER.IMS_PER_BATCH and the data set as "
            "they were"
        )
    if len(set(comm.all_gather(steps))) > 1:
        raise UserError(
            f"checkpoint {path}: the ranks would go on from different steps; OUTPUT_DIR must be "
            "one folder that all machines see"
        )
    return steps


def rng_state() -> dict[str, Any]:
    """State of every random generator of this process, as plain tensors, tuples and numbers."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_rng_states(states: list[dict[str, Any]]) -> None:
    """Restore this rank's entry of all ranks' `rng_state`; nothing if their number has changed."""
    if len(states) != comm.get_world_size():
        logger.warning(
            "the checkpoint is of %d processes, this run has %d: random generators start anew",
            len(states),
            comm.get_world_size(),
        )
        return
    state = states[comm.get_rank()]
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def truncate_scalars(path: Path, done: int) -> None:
    """Drop lines of scalars.json that were written after a checkpoint, or only in part.

    Args:
        path: need not exist.
        done: finished steps of the checkpoint; the last of them has the number done - 1.
    """
    kept = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["iteration"] < done:
                kept.append(line)
    with replaced(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept))
