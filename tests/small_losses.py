"""Batches of features for the tests of losses."""

import torch

from icre.modality import INFRARED, VISIBLE
from icre.modeling.losses import (
    CenterCluster,
    EnhancedSquaredDifference,
    Guided,
    HeteroCenterTriplet,
    PullPush,
    QuadrupleCenter,
    Rank,
    SoftRank,
    WeightedRegularizedTriplet,
)

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


def pull_push(f, targets, modalities, rho1, rho2):
    """(pull, push) of features in their own precision, as those below."""
    return terms(PullPush(rho1, rho2), f, targets, modalities)


def rank(f, targets, modalities, rho1, rho2, norm=True):
    """(cross, intra)."""
    return terms(Rank(rho1, rho2, normalize=norm), f, targets, modalities)


def soft_rank(f, targets, modalities, rho1):
    """The loss."""
    return terms(SoftRank(rho1), f, targets, modalities)[0]


def guided(f, targets, modalities, rho1, rho2, unenhanced):
    """(pull, push)."""
    return terms(Guided(rho1, rho2), f, targets, modalities, unenhanced=unenhanced)


def hetero_center_triplet(f, targets, modalities, margin):
    """The loss."""
    return terms(HeteroCenterTriplet(margin), f, targets, modalities)[0]


def center_cluster(f, targets, margin):
    """(pull, push)."""
    return terms(CenterCluster(margin), f, targets)


def quadruple_center(f, targets, modalities, margin):
    """(pull, push)."""
    return terms(QuadrupleCenter(margin), f, targets, modalities)


def weighted_regularized_triplet(f, targets, epsilon=0.0):
    """The loss."""
    return terms(WeightedRegularizedTriplet(epsilon), f, targets)[0]


def enhanced_squared_difference(f, targets):
    """The loss."""
    return terms(EnhancedSquaredDifference(), f, targets)[0]


def terms(loss, f, targets, modalities=None, **others):
    """Terms of a loss without the preparation of features, which makes them float32."""
    modalities = torch.zeros_like(targets) if modalities is None else modalities
    return tuple(loss.formula(f, targets, modalities, **others).values())
