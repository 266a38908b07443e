"""Checkpoints that survive a kill, cannot run code, and know what they belong to."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

import icre.compat  # noqa: F401  (before any fastreid import)
from fastreid.config import CfgNode
from fastreid.utils.checkpoint import Checkpointer

from icre.errors import UserError
from icre.evaluation.files import replaced


class SafeCheckpointer(Checkpointer):
    """fast-reid's Checkpointer, writing atomically and refusing what does not fit the model.

    fast-reid writes in place (a kill leaves half a file behind `last_checkpoint`), and skips
    parameters that do not match with a log line. Here only the classifier may differ in its number
    of identities, and only when nothing but the weights is loaded.
    """

    def save(self, name: str, **extra: Any) -> None:
        """Write `<save_dir>/<name>.pth` whole or not at all, then tag it as the last one."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: obj.state_dict() for key, obj in self.checkpointables.items()}
        target = Path(self.save_dir) / f"{name}.pth"
        with replaced(target) as temporary, open(temporary, "wb") as file:
            torch.save({"model": self.model.state_dict(), **states, **extra}, file)
            file.flush()
            os.fsync(file.fileno())
        self.tag_last_checkpoint(target.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Point `last_checkpoint` at a file, atomically."""
        with replaced(Path(self.save_dir) / "last_checkpoint") as temporary:
            temporary.write_text(last_filename_basename)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Load weights, and what else is asked for; returns the rest of the checkpoint.

        Raises:
            UserError: the file is missing, damaged, holds code, or is of another model.
        """
        if path and not os.path.isfile(path):
            raise UserError(f"checkpoint {path} is missing: set MODEL.WEIGHTS to an existing file")
        self.path = path
        self.weights_only = checkpointables == []
        return super().load(path, checkpointables)

    def _load_file(self, f: str) -> dict:
        return read_checkpoint(f)

    def _log_incompatible_keys(self, incompatible) -> None:
        wrong = [name for name, *shapes in incompatible.incorrect_shapes if not self._class_count(*shapes)]
        # A skipped classifier is also reported as missing.
        skipped = {name for name, *_ in incompatible.incorrect_shapes}
        missing = [name for name in incompatible.missing_keys if name not in skipped]
        faults = {"wrong shape": wrong, "missing": missing, "unknown": incompatible.unexpected_keys}
        told = [f"{kind}: {', '.join(names[:3])}" for kind, names in faults.items() if names]
        if told:
            raise UserError(
                f"checkpoint {self.path} is of another model than this config's ({'; '.join(told)})"
            )
        for name, theirs, ours in incompatible.incorrect_shapes:
            self.logger.info("%s not loaded: %d identities, now %d", name, theirs[0], ours[0])

    def _class_count(self, theirs: tuple, ours: tuple) -> bool:
        """Whether two shapes differ in the number of identities alone, and that is allowed."""
        return self.weights_only and len(theirs) == len(ours) == 2 and theirs[1:] == ours[1:]


def read_checkpoint(path: str | Path) -> dict:
    """Everything in a checkpoint, on the CPU; nothing in it is run.

    Raises:
        UserError: the file is damaged, holds code, or is no checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        reason = str(error).splitlines()[0][:150]
        raise UserError(f"checkpoint {path} cannot be read as plain tensors: {reason}") from None
    if not isinstance(checkpoint, dict) or "model" not in checkpoint:
        raise UserError(f"checkpoint {path} has no entry 'model': it was not written by fast-reid")
    return checkpoint


def origin(cfg: CfgNode) -> dict:
    """What a checkpoint says of itself beside the weights."""
    trained_on = list(cfg.DATASETS.NAMES)
    split = cfg.DATASETS.REGDB_SPLIT if "RegDB" in trained_on else None
    return {"config": cfg.dump(), "datasets": trained_on, "regdb_split": split}


def refuse_other_split(cfg: CfgNode, checkpoint: dict, path: str) -> None:
    """Raise UserError when RegDB's split is another than the checkpoint was trained on.

    Half of the test identities of a split are training identities of any other.
    """
    trained, asked = checkpoint.get("regdb_split"), cfg.DATASETS.REGDB_SPLIT
    if "RegDB" in cfg.DATASETS.TESTS and trained not in (None, asked):
        raise UserError(
            f"checkpoint {path} was trained on split {trained} of RegDB and knows test identities "
            f"of split {asked}: set DATASETS.REGDB_SPLIT {trained}"
        )


def rng_state() -> dict:
    """State of every random generator of this process, as plain tensors, tuples and numbers."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_rng_state(state: dict) -> None:
    """Put back what `rng_state` returned (the GPU's only where there is one)."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
