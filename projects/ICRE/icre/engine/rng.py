"""The random generators of a process, for a run that goes on as if it had not been broken off."""

import logging
import random

import numpy as np
import torch

import icre.compat  # noqa: F401

from fastreid.utils import comm

logger = logging.getLogger("fastreid.icre")


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


def set_rng_states(states: list[dict]) -> None:
    """Put back this rank's of all ranks' states; nothing where their number has changed."""
    if len(states) == comm.get_world_size():
        set_rng_state(states[comm.get_rank()])
    else:
        logger.warning(
            "the checkpoint is of %d processes, this run has %d: random generators start anew",
            len(states),
            comm.get_world_size(),
        )
