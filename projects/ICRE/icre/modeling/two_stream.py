"""Two streams of a backbone: one stem per modality, shared stages, a dict of named maps.

The split is AGW's (Ye et al., TPAMI 2021): the first layers (of a ResNet conv1 and bn1) per
modality, all else shared; with one specific stage it is HcTri's (Liu et al., TMM 2021).

Shapes: B images, H x W pixels.
"""

import copy
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY, build_backbone, build_resnet_backbone

from icre.modality import NAMES
from icre.modeling.backbone import STAGES, Stages, staged
from icre.modeling.pretrained import load_pretrained, pretrained_file, without_pretrained
from icre.utils.choice import one_of
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")

SPECIFIC_STAGES = (0, 1)  # MODEL.BACKBONE.SPECIFIC_STAGES
DEPTHS = ("18x", "34x", "50x", "101x")


class TwoStream(nn.Module):
    """A backbone whose first layers exist once per modality.

    Args:
        backbone: keeps the contract of `icre.modeling.backbone`; its layers are used. Both stems
            start as copies of its stem.
        specific_stages: layers that exist once per modality: 0 the stem; 1 layer1 as well.

    Attributes:
        channels: stage name -> channels of its map.
        takes_counts: `modalities` may be the number of images of each, see `forward`.
        embeddings: how many the stages make of each image, the rows of layer4's map over images.
    """

    two_stream = True
    takes_counts = True
    embeddings = 1

    channels: dict[str, int]

    def __init__(self, backbone: Any, specific_stages: int = 0):
        super().__init__()
        one_of("MODEL.BACKBONE.SPECIFIC_STAGES", specific_stages, SPECIFIC_STAGES)
        self.channels = {name: backbone.channels[name] for name in STAGES}
        stem, stages = backbone.stem, backbone.stages
        if specific_stages == 1:
            if not isinstance(stages, Stages):
                raise UserError(
                    "MODEL.BACKBONE.SPECIFIC_STAGES 1 needs a backbone whose stages are modules "
                    "of their own; set it to 0"
                )
            # beside the stem's own layers, which so keep their names in checkpoints
            parts = stem.named_children() if type(stem) is nn.Sequential else [("stem", stem)]
            stem = nn.Sequential(OrderedDict([*parts, ("layer1", stages["layer1"])]))
            stages["layer1"] = nn.Identity()
        self.stems = nn.ModuleDict({name: copy.deepcopy(stem) for name in NAMES})
        self.stages = stages

    def forward(
        self, images: Tensor, modalities: Tensor | Sequence[int], last: str = "layer4"
    ) -> dict[str, Tensor]:
        """Map every image through its modality's stem and then the shared stages.

        Args:
            images: (B, 3, H, W), normalised.
            modalities: (B,) integers of `icre.modality`, best on the CPU: finding a modality's
                images in a GPU tensor makes the CPU wait for the GPU. Or, if the images are in the
                order of their modalities, how many there are of each, which nothing waits for.
            last: stage to stop after; another than layer4 needs `Stages`.

        Returns:
            layer1 (B, C1, h1, w1) to layer4 (B, C4, h4, w4); C1..C4 are `channels`. A ResNet's
            are of strides 4, 8, 16 and, with last stride 1, 16.
        """
        x = self._stem(images, modalities)
        return self.stages(x) if last == "layer4" else self.stages(x, last)

    def _stem(self, images: Tensor, modalities: Tensor | Sequence[int]) -> Tensor:
        """The stems' results, in the batch's order.

        A stem sees only its own images, so neither modality leaks into the other's batch
        statistics; a modality that is not in the batch leaves its stem untouched.
        """
        if not isinstance(modalities, Tensor):
            parts = images.split(list(modalities))
            return torch.cat([stem(x) for stem, x in zip(self.stems.values(), parts) if len(x)])
        order, counts = group_by_modality(modalities, len(images))
        if order is None:
            return self._stem(images, counts)
        grouped = self._stem(images[order.to(images.device, non_blocking=True)], counts)
        return grouped[torch.argsort(order).to(images.device, non_blocking=True)]


def group_by_modality(modalities: Tensor, images: int) -> tuple[Tensor | None, tuple[int, ...]]:
    """How to bring a batch into the order of its modalities; all on the CPU.

    Args:
        modalities: (B,) integers of `icre.modality`.
        images: B.

    Returns:
        The rows in that order (B,), None if they are already; and the number of each modality.

    Raises:
        UserError: there are other numbers, or more or fewer.
    """
    modalities = modalities.cpu()
    rows = [torch.nonzero(modalities == m).flatten() for m in range(len(NAMES))]
    order = torch.cat(rows)
    if modalities.shape != (images,) or len(order) != images:
        known = " or ".join(map(str, range(len(NAMES))))
        raise UserError(
            f"modalities must hold {known} for each of {images} images, not {modalities.tolist()}"
        )
    in_order = torch.equal(order, torch.arange(images, device=order.device))
    return None if in_order else order, tuple(len(one) for one in rows)


def build_two_stream(cfg: CfgNode) -> Any:
    """Build `MODEL.BACKBONE.NAME`, and make two streams of it unless it has two already.

    Raises:
        UserError: the backbone does not keep the contract, or `MODEL.BACKBONE.FEAT_DIM` is another
            number of channels than it yields.
    """
    node = cfg.MODEL.BACKBONE
    backbone = staged(build_backbone(cfg), node.NAME)
    if not getattr(backbone, "two_stream", False):
        shared = sum(p.numel() for p in backbone.stages.parameters())
        per_modality = sum(p.numel() for p in backbone.stem.parameters())
        logger.info(
            "Two streams of %s: a stem of %d parameters per modality, %d shared",
            node.NAME,
            per_modality,
            shared,
        )
        backbone = TwoStream(backbone, node.SPECIFIC_STAGES)
    if backbone.channels["layer4"] != node.FEAT_DIM:
        raise UserError(
            f"MODEL.BACKBONE.FEAT_DIM is {node.FEAT_DIM}, but {node.NAME} of DEPTH {node.DEPTH} "
            f"yields {backbone.channels['layer4']}: set it to that"
        )
    return backbone


@BACKBONE_REGISTRY.register()
def build_two_stream_resnet_backbone(cfg: CfgNode) -> TwoStream:
    """Two streams of fast-reid's ResNet, pretrained if `MODEL.BACKBONE.PRETRAIN` is set."""
    return TwoStream(build_resnet(cfg), cfg.MODEL.BACKBONE.SPECIFIC_STAGES)


def build_resnet(cfg: CfgNode) -> Any:
    """fast-reid's ResNet as a StagedBackbone, with the padding of MODEL.BACKBONE.POOL_PADDING.

    Raises:
        UserError: fast-reid has no ResNet of this depth, or the pretrained weights do not fit.
    """
    node = cfg.MODEL.BACKBONE
    if node.DEPTH not in DEPTHS:
        raise UserError(
            f"MODEL.BACKBONE.DEPTH is '{node.DEPTH}'; it must be one of {', '.join(DEPTHS)}"
        )
    resnet = build_resnet_backbone(without_pretrained(cfg))
    if node.PRETRAIN:
        load_pretrained(resnet, pretrained_file(cfg))
    if node.POOL_PADDING:
        resnet.maxpool = nn.MaxPool2d(3, stride=2, padding=node.POOL_PADDING)
    return staged(resnet, node.NAME)
