"""Centres of a batch's identities in each modality, and distances between features or centres.

All as B x B masks, as `torch.unique` would make the CPU wait for the GPU. Images may come in any
order, any number of each identity and modality. The centres carry gradient.

Shapes: B features of D dimensions.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Centres(NamedTuple):
    """Modality-aware centres; row i is of the identity y_i and the modality m_i of feature i.

    Attributes:
        intra: (B, D), centre of y_i in m_i.
        cross: (B, D), centre of y_i in the other modality; 0 if the batch has none.
        has_cross: (B,) bool, the batch has images of y_i in both modalities.
        is_first: (B,) bool, first row of its identity and modality: each centre counts once.
        same_id: (B, B) bool.
        same_modality: (B, B) bool.
    """

    intra: Tensor
    cross: Tensor
    has_cross: Tensor
    is_first: Tensor
    same_id: Tensor
    same_modality: Tensor

    @property
    def negatives(self) -> Tensor:
        """(B, B) bool, `intra[j]` is a centre of another identity than y_i; each centre once."""
        return self.is_first & ~self.same_id

    @property
    def modality_distance(self) -> Tensor:
        """(B,) distance between y_i's two centres; meaningless without `has_cross`."""
        return torch.linalg.vector_norm(self.intra - self.cross, dim=1)

    @property
    def identity(self) -> Tensor:
        """(B, D) mean of y_i's two centres; its only centre without `has_cross`."""
        mean = (self.intra + self.cross) / 2
        return torch.where(self.has_cross.unsqueeze(1), mean, self.intra)


def modality_centres(features: Tensor, targets: Tensor, modalities: Tensor) -> Centres:
    """Centres of (B, D) features by (B,) identities and (B,) integers of `icre.modality`."""
    same_id = targets.unsqueeze(1) == targets.unsqueeze(0)
    same_modality = modalities.unsqueeze(1) == modalities.unsqueeze(0)
    intra, _ = group_means(features, same_id & same_modality)
    cross, has_cross = group_means(features, same_id & ~same_modality)
    is_first = first_of_group(same_id & same_modality)
    return Centres(intra, cross, has_cross, is_first, same_id, same_modality)


def group_means(features: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each row's group.

    Args:
        features: (B, D).
        member: (B, B) bool; feature j is in the group of row i.

    Returns:
        The means (B, D), 0 for an empty group, and (B,) bool, the group is not empty.
    """
    count = member.sum(dim=1)
    means = member.to(features.dtype) @ features / count.clamp_min(1).unsqueeze(1)
    return means, count > 0


def first_of_group(same: Tensor) -> Tensor:
    """(B, B) bool equivalence relation -> (B,) bool, true in the first row of each class."""
    return ~same.tril(diagonal=-1).any(dim=1)


def pairwise_distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (B, D), (M, D) -> (B, M); the gradient between equal points is 0.

    Not in cdist's matrix-multiplication form, which loses the small distances that matter here.
    """
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def nearest(distances: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest allowed distance of each row.

    Args:
        distances: (B, M).
        allowed: (B, M) bool.

    Returns:
        (B,) distances, 0 if none is allowed, and (B,) bool, one is allowed.
    """
    exists = allowed.any(dim=1)
    masked = distances.masked_fill(~allowed, torch.inf)
    masked = torch.cat([masked, masked.new_full((len(masked), 1), torch.inf)], dim=1)  # if M is 0
    return torch.where(exists, masked.amin(dim=1), 0.0), exists


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values whose mask is true; a differentiable 0 if there are none."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


def push_apart(centres: Tensor, same_id: Tensor, margin: float) -> Tensor:
    """mean_{k != l} [ margin - ||c_k - c_l|| ]_+ over ordered pairs of identities.

    Args:
        centres: (B, D), row i is c_{y_i}.
        same_id: (B, B) bool.
        margin: distance below which two identities' centres repel each other.
    """
    first = first_of_group(same_id)
    pairs = first.unsqueeze(1) & first.unsqueeze(0) & ~same_id  # (B, B)
    return masked_mean((margin - pairwise_distances(centres, centres)).relu(), pairs)
