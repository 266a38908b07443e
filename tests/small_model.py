"""Small ICREs for tests: 64x32 images, eight identities, 32-wide tokens of eight heads."""

import torch
from torch import Tensor

from fastreid.config import CfgNode, get_cfg
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.backbones.resnet import BasicBlock, ResNet

from icre.config import add_icre_config
from icre.modeling import ICRE, TwoStream, build_model
from icre.modeling.backbone import staged

BASELINE = (
    "MODEL.MPFR.ENABLED",
    False,
    "MODEL.SDCE.ENABLED",
    False,
    "MODEL.LOSSES.NAME",
    ("CrossEntropyLoss",),
)

# An eighth of ResNet-18's width and half of its blocks, for what does not depend on the backbone.
NARROW = ("MODEL.BACKBONE.NAME", "build_narrow_two_stream_backbone", "MODEL.BACKBONE.FEAT_DIM", 64)

CHANNELS = {"layer1": 4, "layer2": 6, "layer3": 8, "layer4": 10}  # of `random_maps`


def small_cfg(*options: object) -> CfgNode:
    """The config of the small model, with `options` (key, value, key, value, ...) on top."""
    cfg = get_cfg()
    add_icre_config(cfg)
    cfg.merge_from_list(
        [
            "MODEL.DEVICE",
            "cpu",
            "MODEL.META_ARCHITECTURE",
            "ICRE",
            "MODEL.BACKBONE.NAME",
            "build_two_stream_resnet_backbone",
            "MODEL.BACKBONE.DEPTH",
            "18x",
            "MODEL.BACKBONE.FEAT_DIM",
            512,
            "MODEL.HEADS.NAME",
            "ICREHead",
            "MODEL.HEADS.POOL_LAYER",
            "GeneralizedMeanPooling",
            "MODEL.HEADS.WITH_BNNECK",
            True,
            "MODEL.HEADS.NUM_CLASSES",
            8,
            "MODEL.LOSSES.NAME",
            ("CrossEntropyLoss", "ICGLoss"),
            "MODEL.MPFR.DIM",
            32,
            *options,
        ]
    )
    return cfg


def small_model(*options: object, seed: int = 0) -> ICRE:
    """ICRE with a ResNet-18 on the CPU, in training mode."""
    torch.manual_seed(seed)
    return build_model(small_cfg(*options)).train()


class NarrowResNet(ResNet):
    """ResNet with stages of 8, 16, 32 and 64 channels, one block each."""

    def __init__(self):
        super().__init__(1, "BN", False, False, False, BasicBlock, [1] * 4, [0] * 4)

    def _make_layer(self, block, planes, *options, **more):
        return super()._make_layer(block, planes // 8, *options, **more)


@BACKBONE_REGISTRY.register()
def build_narrow_two_stream_backbone(cfg: CfgNode) -> TwoStream:
    """The two-stream form of NarrowResNet."""
    specific_stages = cfg.MODEL.BACKBONE.SPECIFIC_STAGES
    return TwoStream(staged(NarrowResNet(), "narrow"), specific_stages)


def narrow_model(*options: object, seed: int = 0) -> ICRE:
    """`small_model` with the narrow backbone."""
    return small_model(*NARROW, *options, seed=seed)


def small_batch(size: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """`size` random images of size / 4 identities, two of each in either modality."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "images": 255 * torch.rand(size, 3, 64, 32, generator=generator),
        "targets": torch.arange(size) // 4,
        "modalities": torch.arange(size) % 2,
    }


def rows(batch: dict[str, Tensor], index: Tensor | slice) -> dict[str, Tensor]:
    """The chosen rows of every tensor of a batch."""
    return {key: value[index] for key, value in batch.items()}


def randomise_norms(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every norm random weights and running statistics, so that none is an identity."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, (torch.nn.BatchNorm2d, torch.nn.LayerNorm)):
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(generator=generator)
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)


def random_maps(batch: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """Four maps; layer1's 9 x 5 does not divide into layer4's 4 x 2."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"layer1": (9, 5), "layer2": (8, 4), "layer3": (4, 2), "layer4": (4, 2)}
    return {
        name: torch.randn(batch, CHANNELS[name], *size, generator=generator)
        for name, size in sizes.items()
    }
