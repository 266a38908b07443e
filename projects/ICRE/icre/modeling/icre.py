"""ICRE, the meta-architecture: backbone, enhancement (MPFR and SDCE), head, losses.

"Identity Clue Refinement and Enhancement for Visible-Infrared Person Re-Identification", Zhang et
al., arXiv 2512.04522, as we read it (method card, projects/ICRE/README.md).

Shapes: B images of H x W pixels, C channels of layer4, (h, w) its grid; for a ResNet-50 and last
stride 1, C = 2048 and (h, w) = (H/16, W/16).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode, configurable
from fastreid.modeling.heads import EmbeddingHead, build_heads
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY

from icre.modeling.backbone import Stages
from icre.modeling.enhance import Enhanced, build_enhancement
from icre.modeling.losses import Outputs, build_losses
from icre.modeling.two_stream import build_two_stream, group_by_modality
from icre.utils.errors import UserError

# Parameters that were renamed: prefix in old checkpoints -> prefix today
RENAMED = {
    "enhance.clues.project.": "enhance.clues.align.project.",
    "enhance.clues.neutral.": "enhance.clues.instance_norms.",
    "enhance.clues.mask.weight": "enhance.clues.mask.conv.weight",
    "enhance.clues.mask.bias": "enhance.clues.mask.conv.bias",
    "enhance.distil.ask.": "enhance.distil.deep_proj.",
}


@META_ARCH_REGISTRY.register()
class ICRE(nn.Module):
    """Visible-infrared re-identification network; its forward is the paper's Fig. 2.

    Args:
        backbone: (images, modalities) -> {stage: map}; the contract is in `icre.modeling.backbone`.
        enhance: {stage: map} -> Enhanced; its `place` is the stage whose map it enhances.
        heads: map -> test feature, or the dict of outputs in training.
        losses: each (Outputs, targets, modalities) -> {name: scalar}.
        pixel_mean: per channel, in 0..255.
        pixel_std: per channel, in 0..255.

    Attributes:
        health: detached 0-d tensors of the last training step (see `_health`), for a hook to log.
    """

    backbone: Any
    pixel_mean: Tensor  # (1, 3, 1, 1)
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        enhance: nn.Module,
        heads: EmbeddingHead,
        losses: Sequence[nn.Module],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        super().__init__()
        self.backbone = backbone
        self.enhance = enhance
        self.heads: EmbeddingHead = heads
        self.losses = nn.ModuleList(losses)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(1, -1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(1, -1, 1, 1), False)
        self.health: dict[str, Tensor] = {}
        self._compiled: Any = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build the parts from `cfg.MODEL`."""
        backbone = build_two_stream(cfg)
        enhance = build_enhancement(cfg, backbone.channels)
        if enhance.place != "layer4" and not isinstance(getattr(backbone, "stages", 0), Stages):
            raise UserError(
                f"MODEL.SDCE.PLACE {enhance.place} needs a backbone whose stages are modules of "
                f"their own, which MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME} has not: take "
                "layer4"
            )
        return {
            "backbone": backbone,
            "enhance": enhance,
            "heads": build_heads(cfg),
            "losses": build_losses(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Device of the parameters; inputs are moved there."""
        return self.pixel_mean.device

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
        """Features in evaluation, losses in training.

        Args:
            batch: `images` (B, 3, H, W) in 0..255; `modalities` (B,) integers of
                `icre.modality`, best left on the CPU; in training `targets` (B,) identities.

        Returns:
            The test feature (B, C), not L2-normalised; or {name: scalar loss} in training.
        """
        images = self._moved(_get(batch, "images"))
        modalities = _get(batch, "modalities")
        if not self.training:
            return self.network(images, modalities)
        targets = self._moved(_get(batch, "targets"))
        streams: Tensor | Sequence[int] = modalities
        if getattr(self.backbone, "takes_counts", False):
            order, streams = group_by_modality(modalities, len(images))
            if order is not None:  # losses do not depend on the order of the images
                order = self._moved(order)
                images, targets = images[order], targets[order]
                modalities = self._moved(modalities)[order]
        network = self._compiled or self.network
        losses, self.health = network(images, streams, targets, self._moved(modalities))
        return losses

    def network(
        self,
        images: Tensor,
        streams: Tensor | Sequence[int],
        targets: Tensor | None = None,
        modalities: Tensor | None = None,
    ) -> Any:
        """What is computed on the device, which is also what SOLVER.COMPILE compiles.

        Args:
            images: (B, 3, H, W) in 0..255, on the device as all of the following.
            streams: what the backbone takes as modalities, of `TwoStream` in training
                the number of images of each.
            targets, modalities: (B,), in training.

        Returns:
            The test feature (B, C); or the losses and the model's health in training.
        """
        enhanced, final = self._maps(self._normalise(images), streams)
        embeddings = getattr(self.backbone, "embeddings", 1)
        if targets is None or modalities is None:
            return _side_by_side(self.heads(final), embeddings)  # (B, C)
        targets, modalities = targets.repeat(embeddings), modalities.repeat(embeddings)
        predicted = self.heads(final, targets)  # features (B, C), cls_outputs (B, classes)
        outputs = Outputs(
            features=predicted["features"],
            cls_outputs=predicted["cls_outputs"],
            neck=predicted.get("neck"),
            embeddings=embeddings,
            deep=enhanced.deep,
            clues=enhanced.clues,
            pool=self.heads.pool_layer,
        )
        losses: dict[str, Tensor] = {}
        for loss in self.losses:
            losses.update(loss(outputs, targets, modalities))
        return losses, _health(enhanced, predicted, targets)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """torch.compile training's `network`; to sort a batch needs the CPU, and stays outside."""
        self._compiled = torch.compile(self.network, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """A copy is not compiled, as torch's own modules have it."""
        return {**super().__getstate__(), "_compiled": None}

    def _moved(self, value: Tensor) -> Tensor:
        return value.to(self.device, non_blocking=True)

    def _maps(self, images: Tensor, streams: Tensor | Sequence[int]) -> tuple[Enhanced, Tensor]:
        """The enhancement, and the map that the heads pool, (B, C, h, w)."""
        place = self.enhance.place
        if place == "layer4":
            enhanced = self.enhance(self.backbone(images, streams))
            return enhanced, enhanced.map
        enhanced = self.enhance(self.backbone(images, streams, place))
        return enhanced, self.backbone.stages["layer4"](enhanced.map)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Called by torch's `load_state_dict`: accept the names of old checkpoints."""
        rename_parameters(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _normalise(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..255 -> about zero mean and unit deviation, in a new tensor.

        fast-reid's Baseline works in place, and so normalises twice when a flip reuses the images.
        """
        return (images - self.pixel_mean) / self.pixel_std


def rename_parameters(state: dict[str, Tensor], prefix: str = "") -> None:
    """Give a state dict of any age today's names, in place.

    Args:
        state: the entries of a model start with `prefix`.
    """
    for old, new in RENAMED.items():
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)


def _side_by_side(features: Any, embeddings: int) -> Any:
    """Embeddings of the same images, one behind the other -> one feature of each image.

    Each embedding is L2-normalised, so that the cosine of two images is the mean over embeddings.

    Args:
        features: (R * B, C), or {name: (R * B, C)}.
        embeddings: R; 1 leaves the features as they are.

    Returns:
        (B, R * C), or such by name.
    """
    if embeddings == 1:
        return features
    if isinstance(features, dict):
        return {name: _side_by_side(one, embeddings) for name, one in features.items()}
    return torch.cat([F.normalize(one) for one in features.chunk(embeddings)], dim=1)


def _get(batch: Mapping[str, Tensor], key: str) -> Tensor:
    """batch[key], or an error that names the missing key."""
    if not isinstance(batch, Mapping) or key not in batch:
        found = ", ".join(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise KeyError(f"ICRE needs '{key}' in its batch, found: {found}")
    return batch[key]


@torch.no_grad()
def _health(
    enhanced: Enhanced, outputs: Mapping[str, Tensor], targets: Tensor
) -> dict[str, Tensor]:
    """Detached 0-d tensors, left on the device, that show a dead module or a collapsed feature.

    Returns:
        cls_accuracy: share of images that the classifier gets right.
        feature_spread: standard deviation of f over the batch, mean over its dimensions.
        sdce_share: root mean square of BN0's result over that of the map that is enhanced.
        mask_mean_<stage>: mean of the stage's mask.
        mask_saturation: share of all mask values below 0.05 or above 0.95.
    """
    health = {
        "cls_accuracy": (outputs["pred_class_logits"].argmax(1) == targets).float().mean(),
        "feature_spread": outputs["features"].std(dim=0, correction=0).mean(),
    }
    if enhanced.branch is not None:
        health["sdce_share"] = _rms(enhanced.branch) / _rms(enhanced.deep).clamp_min(1e-12)
    for stage, mask in enhanced.masks.items():
        health[f"mask_mean_{stage}"] = mask.float().mean()
    if enhanced.masks:
        masks = torch.cat(list(enhanced.masks.values()), dim=1)
        health["mask_saturation"] = ((masks < 0.05) | (masks > 0.95)).float().mean()
    return health


def _rms(x: Tensor) -> Tensor:
    """Root mean square of all elements, in float32."""
    return x.float().square().mean().sqrt()
