"""Batches of features for the tests of losses."""

import torch

from icre.modality import INFRARED, VISIBLE

V, R = VISIBLE, INFRARED


def ids(*values: int) -> torch.Tensor:
    """Identities or modalities as a tensor."""
    return torch.tensor(values)


def random_batch(seed: int, size: int = 24, dim: int = 5) -> tuple[torch.Tensor, ...]:
    """Float64 features, targets and modalities; unbalanced on purpose: all of them random."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(size, dim, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 6, (size,), generator=generator) * 7
    return features, targets, torch.randint(0, 2, (size,), generator=generator)


def as_lists(*tensors: torch.Tensor) -> list[list]:
    """What the oracles take."""
    return [x.tolist() for x in tensors]
