"""The readings of the ICG loss: identity clues guide the enhanced features, by centres.

Identity Clues Guided loss of ICRE (arXiv 2512.04522). The paper states its aim (classes compact
across modalities, a diverse representation space), modality-aware centres and two swept numbers,
lambda and rho_1; the equations are our readings (method card, projects/ICRE/README.md): one
function each, and one loss that can be used without a config.

If a batch has one modality of an identity, one identity, or no image at all, a term that does not
exist is a differentiable 0. Centres are those of the batch, with gradient; under
DistributedDataParallel those of the rank's batch, or with `gather` of all ranks' batches together.

Shapes: B features of D dimensions; k, l identities; v, r modalities.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from icre.modeling.losses.centres import (
    masked_mean,
    modality_centres,
    nearest,
    pairwise_distances,
    push_apart,
)
from icre.modeling.losses.feature_loss import FeatureLoss


def pull_push(
    features: Tensor, targets: Tensor, modalities: Tensor, rho1: float, rho2: float
) -> tuple[Tensor, Tensor]:
    """Pull each feature to its identity's other modality, push identities apart.

    pull = mean_i [ ||f_i - c_{y_i}^{other modality of i}|| - rho2 ]_+
    push = mean_{k != l} [ rho1 - ||c_k - c_l|| ]_+ ,  c_k = (c_k^v + c_k^r) / 2

    Nearest to MSCMNet's quadruple centre, MPANet's centre cluster and SAAI's slack.

    Args:
        features: f, (B, D).
        targets: (B,) identities.
        modalities: (B,) integers of `icre.modality`.
        rho1: distance below which two identities' centres repel each other.
        rho2: slack of the pull.

    Returns:
        pull and push, 0-d each.
    """
    centres = modality_centres(features, targets, modalities)
    # vector_norm and cdist give a zero gradient, not NaN, between coinciding points.
    distance = torch.linalg.vector_norm(features - centres.cross, dim=1)  # (B,)
    pull = masked_mean(F.relu(distance - rho2), centres.has_cross)
    return pull, push_apart(centres.identity, centres.same_id, rho1)


def rank(
    features: Tensor,
    targets: Tensor,
    modalities: Tensor,
    rho1: float,
    rho2: float,
    norm: bool = True,
) -> tuple[Tensor, Tensor]:
    """Rank an identity's other modality before all other identities, by its centres.

    cross = mean over k, both directions [ rho1 + D(c_k^v, c_k^r) - min_{l != k} D(c_k^v, c_l^r) ]_+
    intra = 0.1 * mean over k, both modalities m [ rho2 - min_{l != k} D(c_k^m, c_l^m) ]_+

    Nearest to eBDTR and the hetero-centre triplet. `cross` is over the identities that the batch
    has in both modalities and that have a negative in the other one.

    Args:
        features, targets, modalities: as in `pull_push`.
        rho1: margin of the ranking.
        rho2: distance below which two identities repel each other inside a modality.
        norm: L2-normalise the centres.

    Returns:
        cross and intra, 0-d each.
    """
    centres = modality_centres(features, targets, modalities)
    if norm:
        centres = centres._replace(
            intra=F.normalize(centres.intra, dim=1), cross=F.normalize(centres.cross, dim=1)
        )
    distances = pairwise_distances(centres.intra, centres.intra)  # (B, B)
    same_modality, negatives = centres.same_modality, centres.negatives
    negative, found = nearest(distances, negatives & ~same_modality)  # (B,)
    cross = masked_mean(
        F.relu(rho1 + centres.modality_distance - negative),
        centres.is_first & centres.has_cross & found,
    )
    negative, found = nearest(distances, negatives & same_modality)
    intra = masked_mean(F.relu(rho2 - negative), centres.is_first & found)
    return cross, 0.1 * intra


def soft_rank(features: Tensor, targets: Tensor, modalities: Tensor, rho1: float) -> Tensor:
    """Rank each feature's identity in the other modality before every other centre of the batch.

    mean_i log(1 + sum_{l != y_i, m} exp(rho1 + ||f_i - c_{y_i}^{other}|| - ||f_i - c_l^m||))

    over both modalities m of every other identity l, so the feature's own modality has negatives
    too. A smooth `rank`: no negative is ever far enough to be left out. Nearest to the multi-class
    N-pair loss (Sohn, NeurIPS 2016), with modality-aware centres in place of images.

    Args:
        features, targets, modalities: as in `pull_push`.
        rho1: margin of the ranking.

    Returns:
        The loss, 0-d.
    """
    centres = modality_centres(features, targets, modalities)
    positive = torch.linalg.vector_norm(features - centres.cross, dim=1)  # (B,)
    negative = pairwise_distances(features, centres.intra)  # (B, B)
    logits = rho1 + positive.unsqueeze(1) - negative
    logits = logits.masked_fill(~centres.negatives, -torch.inf)
    logits = torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)  # exp(0) is the 1 + sum
    return masked_mean(logits.logsumexp(dim=1), centres.has_cross)


def guided(
    features: Tensor,
    targets: Tensor,
    modalities: Tensor,
    rho1: float,
    rho2: float,
    unenhanced: Tensor,
) -> tuple[Tensor, Tensor]:
    """The enhancement must bring an identity's modalities closer than they were without it.

    pull = mean_k [ D(c'_k^v, c'_k^r) - stopgrad D(c_k^v, c_k^r) + rho1 ]_+
    push = mean_{k != l} [ rho2 - ||c'_k - c'_l|| ]_+

    with c' of the enhanced and c of the un-enhanced feature. Nearest to IDKL's centroid loss.
    Without an enhancement, and with INIT_SCALE 0 in the first step, the pull is at its kink: 0.

    Args:
        features, targets, modalities: as in `pull_push`.
        rho1: by how much closer.
        rho2: distance below which two identities' centres repel each other.
        unenhanced: the un-enhanced feature, (B, D).

    Returns:
        pull and push, 0-d each.
    """
    centres = modality_centres(features, targets, modalities)
    before = modality_centres(unenhanced.detach(), targets, modalities)
    excess = F.relu(centres.modality_distance - before.modality_distance + rho1)  # (B,)
    pull = masked_mean(excess, centres.is_first & centres.has_cross)
    return pull, push_apart(centres.identity, centres.same_id, rho2)


class PullPush(FeatureLoss):
    """Pull each feature to its identity's other modality, push identities apart: ICG's default.

    mean_i [ ||f_i - c_{y_i}^{other modality of i}|| - slack ]_+
    + mean_{k != l} [ margin - ||c_k - c_l|| ]_+ ,  c_k = (c_k^v + c_k^r) / 2

    Args:
        margin: rho_1, distance below which two identities' centres repel each other.
        slack: rho_2, distance that costs a feature nothing.
        normalize: L2-normalise the features first, which gives the margins a fixed unit.
        gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.PullPush(margin=1.5)
    >>> batch = features, torch.tensor([7, 7, 9, 9]), torch.tensor([0, 1, 0, 1])
    >>> loss(*batch)
    tensor(1.4900)
    >>> loss.terms(*batch)
    {'pull': tensor(1.4042), 'push': tensor(0.0858)}
    """

    margin: float
    slack: float

    def __init__(
        self,
        margin: float = 0.7,
        slack: float = 0.01,
        *,
        normalize: bool = True,
        gather: bool = False,
    ):
        super().__init__(normalize=normalize, gather=gather, margin=margin, slack=slack)

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Pull and push."""
        pull, push = pull_push(features, labels, modalities, self.margin, self.slack)
        return {"pull": pull, "push": push}


class Rank(FeatureLoss):
    """Rank an identity's other modality before all other identities, by its centres.

    mean over k, both directions [ margin + D(c_k^v, c_k^r) - min_{l != k} D(c_k^v, c_l^r) ]_+
    + 0.1 * mean over k, both modalities m [ intra_margin - min_{l != k} D(c_k^m, c_l^m) ]_+

    Args:
        margin: rho_1, of the ranking.
        intra_margin: rho_2, distance below which two identities repel each other in a modality.
        normalize: L2-normalise the features first, and the centres.
        gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.Rank(margin=0.5)
    >>> loss(features, labels=torch.tensor([7, 7, 9, 9]), modalities=torch.tensor([0, 1, 0, 1]))
    tensor(0.5000)
    """

    margin: float
    intra_margin: float

    def __init__(
        self,
        margin: float = 0.5,
        intra_margin: float = 0.1,
        *,
        normalize: bool = True,
        gather: bool = False,
    ):
        super().__init__(
            normalize=normalize, gather=gather, margin=margin, intra_margin=intra_margin
        )

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """Cross and intra."""
        margins = self.margin, self.intra_margin
        cross, intra = rank(features, labels, modalities, *margins, norm=self.normalize)
        return {"cross": cross, "intra": intra}


class SoftRank(FeatureLoss):
    """Rank each feature's identity in the other modality before every other centre of the batch.

    mean_i log(1 + sum_{l != y_i, m} exp(margin + ||f_i - c_{y_i}^{other}|| - ||f_i - c_l^m||)) over
    both modalities m of every other identity l: a smooth `Rank`, never 0.

    Args:
        margin: rho_1, of the ranking.
        normalize: L2-normalise the features first.
        gather: see `FeatureLoss`.

    Call it as `loss(features (B, C), labels (B,), modalities (B,))`; see `FeatureLoss.forward`.

    >>> import torch, icre
    >>> features = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> loss = icre.losses.SoftRank(margin=0)
    >>> loss(features, labels=torch.tensor([7, 7, 9, 9]), modalities=torch.tensor([0, 1, 0, 1]))
    tensor(0.9387)
    """

    margin: float

    def __init__(self, margin: float = 0.3, *, normalize: bool = True, gather: bool = False):
        super().__init__(normalize=normalize, gather=gather, margin=margin)

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """One term."""
        return {"list": soft_rank(features, labels, modalities, self.margin)}


class Guided(FeatureLoss):
    """An enhancement must bring an identity's modalities closer than they were without it.

    mean_k [ D(c'_k^v, c'_k^r) - stopgrad D(c_k^v, c_k^r) + gain ]_+
    + mean_{k != l} [ margin - ||c'_k - c'_l|| ]_+ , with c' of the enhanced and c of the
    un-enhanced feature.

    Args:
        gain: rho_1, by how much closer.
        margin: rho_2, distance below which two identities' centres repel each other.
        normalize: L2-normalise both features first.
        gather: see `FeatureLoss`.

    Call it as `loss(features, labels (B,), modalities (B,), unenhanced)`, both features (B, C).

    >>> import torch, icre
    >>> before = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    >>> features = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])
    >>> loss = icre.losses.Guided()
    >>> batch = torch.tensor([7, 7, 9, 9]), torch.tensor([0, 1, 0, 1])
    >>> loss(features, *batch, unenhanced=before), loss(before, *batch, unenhanced=features)
    (tensor(0.), tensor(1.4142))
    """

    gain: float
    margin: float

    def __init__(
        self,
        gain: float = 0.0,
        margin: float = 0.7,
        *,
        normalize: bool = True,
        gather: bool = False,
    ):
        super().__init__(normalize=normalize, gather=gather, gain=gain, margin=margin)

    def formula(  # type: ignore[override]
        self, features: Tensor, labels: Tensor, modalities: Tensor, unenhanced: Tensor
    ) -> dict[str, Tensor]:
        """Pull and push."""
        pull, push = guided(features, labels, modalities, self.gain, self.margin, unenhanced)
        return {"pull": pull, "push": push}
