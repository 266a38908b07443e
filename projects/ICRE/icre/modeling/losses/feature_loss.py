"""What the metric losses share: a plain loss on a batch's features, and its form in a model.

A plain loss (`FeatureLoss`) needs no config: `loss(features, labels, modalities)` is a scalar. In a
model built from a config the same loss stands in a `ConfiguredLoss`, which takes f from the
network's outputs, applies the weight and logs term by term.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable

from icre.modeling.losses.gather import across_ranks
from icre.modeling.losses.outputs import Outputs
from icre.utils.errors import UserError
from icre.utils.numbers import real


class FeatureLoss(nn.Module):
    """A loss on a batch's features, in float32 also under autocast.

    Subclasses define `formula` and the types of their margins. Labels and modalities are compared
    for equality only.

    Args:
        numbers: margins by name; kept as attributes, as floats.
        normalize: L2-normalise the features first.
        gather: over the features of all ranks of torch.distributed (if there are several); every
            rank must have as many images.

    Raises:
        UserError: a margin is no finite number.
    """

    def __init__(self, *, normalize: bool, gather: bool, **numbers: float):
        super().__init__()
        self.normalize, self.gather = normalize, gather
        self._numbers = tuple(numbers)
        for name, value in numbers.items():
            setattr(self, name, real(f"{type(self).__name__}: {name}", value))

    def forward(
        self, features: Tensor, labels: Tensor, modalities: Tensor, **others: Tensor
    ) -> Tensor:
        """The loss of a batch.

        Args:
            features: (B, C) floating point.
            labels: (B,) identities, on the features' device.
            modalities: (B,) integers, 0 visible and 1 infrared, on the features' device.
            others: further features (B, C) of the same images, by the names that a loss gives them.

        Returns:
            The sum of the terms, 0-d float32; a differentiable 0 for what a batch does not have: no
            image, one identity or one modality.

        Raises:
            UserError: names the tensor whose shape, type or device does not fit.
        """
        terms = self.terms(features, labels, modalities, **others)
        return torch.stack(list(terms.values())).sum()

    def terms(
        self, features: Tensor, labels: Tensor, modalities: Tensor, **others: Tensor
    ) -> dict[str, Tensor]:
        """The terms whose sum `forward` returns, 0-d each, by name; arguments as there."""
        check_batch(features, labels, modalities, **others)
        with torch.autocast(features.device.type, enabled=False):
            return self.formula(
                self._prepared(features),
                across_ranks(labels, self.gather),
                across_ranks(modalities, self.gather),
                **{name: self._prepared(other) for name, other in others.items()},
            )

    def formula(self, features: Tensor, labels: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """The terms, of features in float32, normalised and gathered already."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The arguments, for `print`."""
        shown = (*self._numbers, "normalize", "gather")
        return ", ".join(f"{name}={getattr(self, name)}" for name in shown)

    def _prepared(self, features: Tensor) -> Tensor:
        """(B, C) -> float32, of length 1 with `normalize`, of all ranks with `gather`."""
        features = features.float()
        features = F.normalize(features, dim=1) if self.normalize else features
        return across_ranks(features, self.gather)


def check_batch(features: Tensor, labels: Tensor, modalities: Tensor, **others: Tensor) -> None:
    """Raise UserError unless these are one batch; values are not looked at (a GPU would wait)."""
    columns = {"labels": labels, "modalities": modalities}
    for name, value in {"features": features, **columns, **others}.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{name} must be a torch tensor, not {type(value).__name__}")
    if features.ndim != 2 or not features.is_floating_point():
        raise UserError(
            f"features must be (B, C) of floating point, not {tuple(features.shape)} of "
            f"{features.dtype}"
        )
    shapes = {**dict.fromkeys(columns, features.shape[:1]), **dict.fromkeys(others, features.shape)}
    for name, value in {**columns, **others}.items():
        if value.shape != shapes[name]:
            raise UserError(
                f"{name} must be {tuple(shapes[name])} to go with features "
                f"{tuple(features.shape)}, not {tuple(value.shape)}"
            )
        if value.device != features.device:
            raise UserError(
                f"{name} are on {value.device}, the features on {features.device}: move them there"
            )


class ConfiguredLoss(nn.Module):
    """scale * each term of a plain loss on f, as `icre.modeling.losses` wants a model's losses.

    A subclass, registered in LOSS_REGISTRY, defines:
        node: of its keys, below MODEL.LOSSES.
        plain: class of the loss; the keys besides SCALE and NORM are its arguments.
        prefix: of the log names.

    Args:
        scale: weight of the loss.
        norm: L2-normalise the features first.
        gather: over the features of all ranks.
        options: other arguments of the plain loss.
    """

    node: str
    plain: type[FeatureLoss]
    prefix: str

    @configurable
    def __init__(self, *, scale: float, norm: bool, gather: bool = False, **options: float):
        super().__init__()
        self.scale = scale
        self.loss = self.plain(normalize=norm, gather=gather, **options)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read the loss's node of MODEL.LOSSES."""
        options = {key.lower(): value for key, value in cfg.MODEL.LOSSES[cls.node].items()}
        return {**options, "gather": cfg.MODEL.LOSSES.GATHER}

    def forward(self, outputs: Outputs, targets: Tensor, modalities: Tensor) -> dict[str, Tensor]:
        """See `icre.modeling.losses`."""
        terms = self.loss.terms(outputs.features, targets, modalities)
        return {f"{self.prefix}_{name}": self.scale * value for name, value in terms.items()}
