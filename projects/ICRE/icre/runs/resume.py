"""What a checkpoint holds beside weights, and how a run continues from it."""

import contextlib
import functools
import hashlib
import json
import logging
import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import icre.compat  # noqa: F401
from icre.compat import registered

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.utils import comm

from icre.config import load_config
from icre.datasets.base import VisibleInfraredSet
from icre.runs.checkpoint import training_config
from icre.utils.errors import UserError
from icre.utils.files import replaced
from icre.utils.yaml import leaves

logger = logging.getLogger("fastreid.icre")


def origin(cfg: CfgNode, people: dict[str, Any] | None = None) -> dict[str, Any]:
    """Entries of a checkpoint that say what it was trained on; `people`: see `identities`."""
    split = _split(cfg, cfg.DATASETS.NAMES)
    found = {"config": cfg.dump(), "datasets": list(cfg.DATASETS.NAMES), "regdb_split": split}
    return found | ({"identities": people} if people else {})


def identities(items: Iterable[tuple]) -> dict[str, Any]:
    """Count and checksum of the training identities, in the order of the classifier's rows.

    An identity is its label with the names of the folders that its images lie in: other people may
    have the same labels. Folders may be moved, and images added.

    Args:
        items: (path, pid, camid) of every training image.
    """
    folders: dict[str, set[str]] = {}
    for path, pid, _ in items:
        folders.setdefault(str(pid), set()).add(os.path.basename(os.path.dirname(path)))
    lines = [
        f"{pid} {sorted(name.lstrip('0') or '0' for name in names)}"
        for pid, names in sorted(folders.items())
    ]
    return {
        "count": len(lines),
        "sha256": hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest(),
    }


# Keys that a resumed run may change: where it reads and writes, how fast, how it tests.
FREE = (
    "OUTPUT_DIR",
    "DATASETS.ROOT",
    "DATASETS.TESTS",
    "TEST.",
    "INPUT.SIZE_TEST",
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",
    "MODEL.BACKBONE.PRETRAIN",
    "MODEL.BACKBONE.PRETRAIN_PATH",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.CACHE_GB",
    "DATALOADER.CORRUPT",
    "DATALOADER.TIMEOUT",
    "SOLVER.CHECKPOINT_",
    "SOLVER.LAYOUT",
    "SOLVER.COMPILE",
    "SOLVER.MAX_EPOCH",  # re-planned, see `icre.engine.schedule`
    "CUDNN_BENCHMARK",
    "DIST_TIMEOUT",
    "TRACKERS",
)


def changed_key(
    old: dict[str, Any], new: dict[str, Any], free: Sequence[str] = FREE
) -> tuple[str, Any, Any] | None:
    """The first key that two configs have with different values: (name, old value, new value).

    Args:
        old, new: nested; an empty `old` is not known. A key that came after `old` was written had
            its default then; other keys that only one of them has are left out.
        free: names that may differ; those that end in a dot or an underscore: beginnings of names.
    """
    olds, news = (_defaults() | flat(old) if old else {}), flat(new)
    by_epochs = bool(news.get("SOLVER.WARMUP_EPOCHS"))
    for key in (key for key in olds if key in news):
        if key in free or any(key.startswith(one) for one in free if one[-1] in "._"):
            continue
        if key == "MODEL.HEADS.NUM_CLASSES" and 0 in (olds[key], news[key]):
            continue  # set to the number of identities, which are compared by themselves
        if key == "SOLVER.WARMUP_ITERS" and by_epochs:
            continue
        if olds[key] != news[key]:
            return key, olds[key], news[key]
    return None


@functools.cache
def _defaults() -> dict[str, Any]:
    return flat(yaml.safe_load(load_config().dump()))


def flat(node: dict[str, Any]) -> dict[str, Any]:
    """Nested config -> {dotted key: value}, tuples as lists."""
    return {k: list(value) if isinstance(value, tuple) else value for k, value in leaves(node)}


def require_same_run(
    cfg: CfgNode, checkpoint: dict[str, Any], path: str, people: dict[str, Any] | None
) -> None:
    """Refuse to go on from a checkpoint under another config or with other identities.

    Args:
        cfg: of the run that goes on.
        people: `identities` of its training set; None: not known.

    Raises:
        UserError: names the first key, or says that the people are others.
    """
    old = training_config(checkpoint)
    changed = changed_key(old, yaml.safe_load(cfg.dump()))
    if changed:
        key, before, now = changed
        raise UserError(
            f"--resume: {key} is {now}, the run in {Path(path).parent} was begun with {before}: "
            "set it back, or train into another OUTPUT_DIR"
        )
    known = checkpoint.get("identities")
    if known and people and known != people:
        raise UserError(
            f"--resume: {path} was trained on {known['count']} identities, and the data set now "
            f"holds {people['count']}, not the same ones: restore DATASETS.ROOT's split files and "
            "folders, or train into another OUTPUT_DIR"
        )
    if not (old and known):
        logger.warning(
            "%s does not say which config and identities it was trained with, so they are not "
            "compared with this run's",
            path,
        )


def check_split(cfg: CfgNode, checkpoint: dict[str, Any], path: str) -> None:
    """Refuse to test on identities that the checkpoint was trained on.

    Half of the test identities of one RegDB split are training identities of any other, and
    DATASETS.COMBINEALL trains on all.

    Raises:
        UserError: names both splits, or the data set.
    """
    trained_on = training_config(checkpoint).get("DATASETS", {})
    both = set(checkpoint.get("datasets", ())) & set(cfg.DATASETS.TESTS)
    if trained_on.get("COMBINEALL") and both:
        raise UserError(
            f"checkpoint {path} was trained with DATASETS.COMBINEALL True, on the test identities "
            f"of {min(both)} too: its scores on them mean nothing"
        )
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
    if "epoch" not in checkpoint:
        raise UserError(
            f"checkpoint {path} has no entry 'epoch', so no run can be resumed from it: name it as "
            "MODEL.WEIGHTS of a new run"
        )
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
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def restore_rng_states(states: list[dict[str, Any]], path: str) -> None:
    """Restore this rank's entry of all ranks' `rng_state`; nothing if their number has changed.

    Raises:
        UserError: names `path`, the checkpoint whose entry is damaged.
    """
    if len(states) != comm.get_world_size():
        logger.warning(
            "the checkpoint is of %d processes, this run has %d: random generators start anew",
            len(states),
            comm.get_world_size(),
        )
        return
    before = rng_state()
    try:
        _restore(states[comm.get_rank()])
    except Exception as error:  # each generator raises its own kinds
        _restore(before)
        text = " ".join(str(error).split())[:150]
        raise UserError(f"checkpoint {path}: entry 'rng' is damaged ({text})") from None


def _restore(state: dict[str, Any]) -> None:
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
    if not path.is_file():
        return
    for line in path.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["iteration"] < done:
                kept.append(line)
    with replaced(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept))
