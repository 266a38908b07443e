"""Centres of a batch's identities in each modality, and distances between them.

B x B masks stand where a loop over identities would: `torch.unique` would make the CPU wait for the
GPU. A batch in any order, of any mixture, will do. The centres carry gradient.

Shapes: B features of D dimensions.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Centres(NamedTuple):
    """Row i speaks of the identity y_i and the modality m_i of feature i.

    Attributes:
        own: (B, D), centre of y_i in m_i.
        other: (B, D), centre of y_i in the other modality; zero where it has none in the batch.
        paired: (B,) bool, y_i has images of both modalities.
        lead: (B,) bool, one row for each pair of identity and modality.
        same_id: (B, B) bool.
        same_modality: (B, B) bool.
    """

    own: Tensor
    other: Tensor
    paired: Tensor
    lead: Tensor
    same_id: Tensor
    same_modality: Tensor

    @property
    def rivals(self) -> Tensor:
        """(B, B) bool, column j is a centre of another identity than y_i, each centre once."""
        return self.lead & ~self.same_id


def modality_centres(features: Tensor, targets: Tensor, modalities: Tensor) -> Centres:
    """Centres of (B, D) features by (B,) identities and (B,) integers of `icre.modality`."""
    same_id = targets.unsqueeze(1) == targets.unsqueeze(0)
    same_modality = modalities.unsqueeze(1) == modalities.unsqueeze(0)
    own, _ = group_means(features, same_id & same_modality)
    other, paired = group_means(features, same_id & ~same_modality)
    return Centres(own, other, paired, leaders(same_id & same_modality), same_id, same_modality)


def group_means(features: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each row's group.

    Args:
        features: (B, D).
        member: (B, B) bool; row i says which features make up i's group.

    Returns:
        The means (B, D), zero where a group is empty, and (B,) bool: the group has a member.
    """
    count = member.sum(dim=1)
    means = member.to(features.dtype) @ features / count.clamp_min(1).unsqueeze(1)
    return means, count > 0


def leaders(same: Tensor) -> Tensor:
    """(B, B) bool, an equivalence -> (B,) bool, true at the first row of each class."""
    return ~same.tril(diagonal=-1).any(dim=1)


def pairwise(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (B, D), (M, D) -> (B, M); the gradient between equal points is 0.

    Not in cdist's matrix-multiplication form, which loses the small distances that matter here.
    """
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def gaps(centres: Centres) -> Tensor:
    """(B,) distance between y_i's two centres; meaningless where it is not `paired`."""
    return torch.linalg.vector_norm(centres.own - centres.other, dim=1)


def nearest(distances: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest allowed distance of each row.

    Args:
        distances: (B, M).
        allowed: (B, M) bool.

    Returns:
        (B,) distances, 0 where none is allowed, and (B,) bool: one is.
    """
    exists = allowed.any(dim=1)
    barred = distances.masked_fill(~allowed, torch.inf)
    barred = torch.cat([barred, barred.new_full((len(barred), 1), torch.inf)], dim=1)  # if M is 0
    return torch.where(exists, barred.amin(dim=1), 0.0), exists


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is true; a differentiable 0 where it is true nowhere."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


def apart(centres: Tensor, same_id: Tensor, margin: float) -> Tensor:
    """mean_{k != l} [ margin - ||c_k - c_l|| ]_+ over ordered pairs of identities.

    Args:
        centres: (B, D), row i is c_{y_i}.
        same_id: (B, B) bool.
        margin: distance that two identities' centres keep.
    """
    first = leaders(same_id)
    pairs = first.unsqueeze(1) & first.unsqueeze(0) & ~same_id  # (B, B)
    return masked_mean((margin - pairwise(centres, centres)).relu(), pairs)
