"""A model as one graph from 8-bit images to unit vectors, as it is exported.

The two-stream backbone sorts the rows of a batch by modality, which an exported graph cannot do. So
a graph either has one modality's stem, or computes both stems and selects the right one per image
(the stem is a small part of the network: conv1 and bn1, with SPECIFIC_STAGES 1 layer1 too).

Shapes: B images of the config's H x W, D dimensions of the feature.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icre.modality import NAMES, VISIBLE
from icre.modeling import TwoStream


class OneStem(TwoStream):
    """The backbone with the stem of one modality, which takes every image.

    Args:
        backbone: its layers are shared, not copied.
        modality: a name of `icre.modality`.
    """

    takes_counts = False

    def __init__(self, backbone: TwoStream, modality: str):
        nn.Module.__init__(self)
        self.channels, self.stages = backbone.channels, backbone.stages
        self.stems = nn.ModuleDict({modality: backbone.stems[modality]})

    def _stem(self, images: Tensor, modalities: Any) -> Tensor:
        (stem,) = self.stems.values()
        return stem(images)


class BothStems(TwoStream):
    """The backbone that computes both stems for every image and selects that of its modality.

    Args:
        backbone: its layers are shared, not copied.
    """

    takes_counts = False

    def __init__(self, backbone: TwoStream):
        nn.Module.__init__(self)
        self.channels, self.stages = backbone.channels, backbone.stages
        self.stems = backbone.stems

    def _stem(self, images: Tensor, modalities: Any) -> Tensor:
        visible, infrared = (self.stems[name](images) for name in NAMES)
        return torch.where((modalities == VISIBLE).view(-1, 1, 1, 1), visible, infrared)


class InferenceGraph(nn.Module):
    """Normalisation, the model, averaging with the mirror image, and L2 normalisation.

    Args:
        model: batch -> features, any fast-reid model. It is copied.
        modality: whose stem to keep; None: both, or the model has no stems per modality.
        flip: average the features of each image and its mirror image (TEST.FLIP).
    """

    def __init__(self, model: nn.Module, modality: str | None = None, flip: bool = False):
        super().__init__()
        self.model, self.flip = copy.deepcopy(model).eval(), flip
        self.modality = NAMES.index(modality) if modality else 0
        backbone = getattr(model, "backbone", None)
        if isinstance(backbone, TwoStream):  # an own two-stream backbone stays as it is
            backbone = self.model.backbone
            self.model.backbone = OneStem(backbone, modality) if modality else BothStems(backbone)

    def forward(self, images: Tensor, modalities: Tensor | None = None) -> Tensor:
        """Features of images.

        Args:
            images: (B, H, W, 3) uint8 RGB.
            modalities: (B,) int64; needed if both stems are kept.

        Returns:
            (B, D) float32 unit vectors.
        """
        if modalities is None:
            modalities = torch.full(images.shape[:1], self.modality, dtype=torch.int64)
        pixels = images.permute(0, 3, 1, 2).float()
        # fast-reid's own models normalise in place: the mirror images are made before that
        passes = [pixels, pixels.flip(3)] if self.flip else [pixels]
        features = [self.model({"images": one, "modalities": modalities}) for one in passes]
        return F.normalize(sum(features) / len(features))
