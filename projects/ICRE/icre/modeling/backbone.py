"""Backbones in parts: what two streams are made of.

Contract. ICRE takes any backbone with these three attributes, and makes two streams of it
(`icre.modeling.two_stream`); `StagedBackbone` is the simplest way to have them:

    stem: module, images (B, 3, H, W) -> x, a tensor of B rows; each modality has its own
    stages: module, x -> {"layer1": (B, C1, h1, w1), ..., "layer4": (B, C4, h4, w4)}, deepest last
    channels: {"layer1": C1, ..., "layer4": C4}

A backbone that takes modalities itself (`forward(images, modalities)` -> the same dict) has
`channels` and `two_stream = True` instead; one that makes R embeddings of each image, R * B rows of
layer4's map, has `embeddings = R` too. fast-reid's own backbones are taken apart by
`staged`; fast-reid's architectures take any backbone whose `forward(images)` is layer4's map.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import icre.compat  # noqa: F401

from fastreid.modeling.backbones.mobilenet import MobileNetV2
from fastreid.modeling.backbones.mobilenetv3 import MobileNetV3
from fastreid.modeling.backbones.osnet import OSNet
from fastreid.modeling.backbones.regnet.effnet import EffNet
from fastreid.modeling.backbones.regnet.regnet import AnyNet
from fastreid.modeling.backbones.repvgg import RepVGG
from fastreid.modeling.backbones.resnest import ResNeSt
from fastreid.modeling.backbones.resnet import ResNet
from fastreid.modeling.backbones.resnext import ResNeXt
from fastreid.modeling.backbones.shufflenet import ShuffleNetV2

from icre.utils.errors import UserError

STAGES = ("layer1", "layer2", "layer3", "layer4")


class Stages(nn.ModuleDict):
    """Named modules, each of which takes the map of the one before."""

    def forward(self, x: Tensor, last: str = "layer4") -> dict[str, Tensor]:
        """The stem's result (B, C0, h0, w0) -> {name: (B, C, h, w)}, up to the stage `last`."""
        maps: dict[str, Tensor] = {}
        for name, stage in self.items():
            x = maps[name] = stage(x)
            if name == last:
                break
        return maps


class StagedBackbone(nn.Module):
    """A backbone in parts, see the contract above.

    Args:
        stem: images -> what the first stage takes.
        stages: layer1..layer4 -> module; or one module that returns the dict of maps.
        channels: of the maps; by default found with an image of zeros.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Mapping[str, nn.Module] | nn.Module,
        channels: Mapping[str, int] | None = None,
    ):
        super().__init__()
        self.stem = stem
        self.stages = stages if isinstance(stages, nn.Module) else Stages(stages)
        self.channels = dict(channels or _channels(self.stem, self.stages))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> layer4's map (B, C4, h4, w4), which fast-reid's architectures take."""
        return self.stages(self.stem(images))["layer4"]


@torch.no_grad()
def run_once(module: nn.Module, x: Tensor) -> Any:
    """A module's result in evaluation mode; statistics, mode and random state stay as they are."""
    modes = {part: part.training for part in module.modules()}
    try:
        return module.eval()(x)
    finally:
        for part, training in modes.items():
            part.training = training


def _channels(stem: nn.Module, stages: nn.Module) -> dict[str, int]:
    maps = run_once(stages, run_once(stem, torch.zeros(1, 3, 64, 64)))
    return {name: x.shape[1] for name, x in maps.items()}


# fast-reid's class -> (modules of the stem, {stage: its modules}), by their names
FAMILIES: dict[type[nn.Module], tuple[str, dict[str, str]]] = {
    ResNeSt: ("conv1 bn1 relu maxpool", {name: name for name in STAGES}),
    OSNet: (
        "conv1 maxpool",
        {"layer1": "conv2", "layer2": "conv3", "layer3": "conv4", "layer4": "conv5"},
    ),
    RepVGG: ("stage0", {f"layer{i}": f"stage{i}" for i in range(1, 5)}),
    AnyNet: ("stem", {f"layer{i}": f"s{i}" for i in range(1, 5)}),
    EffNet: (
        "stem",
        {"layer1": "s1 s2", "layer2": "s3", "layer3": "s4 s5", "layer4": "s6 s7 head"},
    ),
}


def staged(backbone: Any, name: str) -> Any:
    """A backbone that keeps the contract: `backbone` itself, or the parts of one of fast-reid's.

    Args:
        backbone: what a builder returned; its layers are used, not copied.
        name: of the builder, for the error.

    Raises:
        UserError: it neither keeps the contract nor is of a family of fast-reid's with maps.
    """
    if isinstance(backbone, (ResNet, ResNeXt)):
        pool = "maxpool" if isinstance(backbone, ResNet) else "maxpool1"
        return StagedBackbone(
            _named(backbone, ("conv1", "bn1", "relu", pool)),
            {stage: _resnet_stage(backbone, i) for i, stage in enumerate(STAGES, start=1)},
        )
    for family, (stem, stages) in FAMILIES.items():
        if isinstance(backbone, family):
            parts = {stage: _joined(backbone, names) for stage, names in stages.items()}
            return StagedBackbone(_named(backbone, stem.split()), parts)
    if isinstance(backbone, (MobileNetV2, MobileNetV3)):
        return _by_stride([*backbone.features, backbone.conv])
    if isinstance(backbone, ShuffleNetV2):
        first = nn.Sequential(backbone.first_conv, backbone.maxpool)
        return _by_stride([first, *backbone.features, backbone.conv_last])
    _require_contract(backbone, name)
    return backbone


def _require_contract(backbone: nn.Module, name: str) -> None:
    channels = getattr(backbone, "channels", None)
    parts = () if getattr(backbone, "two_stream", False) else ("stem", "stages")
    if not isinstance(channels, Mapping) or not set(STAGES) <= set(channels):
        lacks = f"it has no channels of the maps {', '.join(STAGES)}"
    elif not all(isinstance(getattr(backbone, part, None), nn.Module) for part in parts):
        lacks = f"it has no modules {' and '.join(parts)}"
    else:
        return
    raise UserError(
        f"MODEL.BACKBONE.NAME {name} gives a {type(backbone).__name__} of which ICRE cannot make "
        f"two streams: {lacks} (see icre/modeling/backbone.py)"
    )


def _named(backbone: Any, names: Iterable[str]) -> nn.Sequential:
    """Children of a backbone, one after the other, under their own names."""
    found = nn.Sequential()
    for name in names:
        found.add_module(name, backbone.get_submodule(name))
    return found


def _joined(backbone: Any, names: str) -> nn.Module:
    return _named(backbone, names.split()) if " " in names else backbone.get_submodule(names)


def _resnet_stage(resnet: nn.Module, number: int) -> nn.Sequential:
    """Stage `number` (1..4) with its non-local blocks, each after the block that it follows."""
    non_local = dict(zip(getattr(resnet, f"NL_{number}_idx"), getattr(resnet, f"NL_{number}", [])))
    stage = nn.Sequential()
    for i, block in enumerate(getattr(resnet, f"layer{number}")):
        stage.append(block)
        if i in non_local:
            stage.append(non_local[i])
    return stage


def _by_stride(modules: list[nn.Module]) -> StagedBackbone:
    """The first module is the stem; the others are put into stages by stride: 4, 8, 16, and 32."""
    height = 64
    stages = {name: nn.Sequential() for name in STAGES}
    x = run_once(modules[0], torch.zeros(1, 3, height, height))
    for module in modules[1:]:
        x = run_once(module, x)
        stride = height // x.shape[-1]
        stages[STAGES[max(stride.bit_length() - 3, 0)]].append(module)
    return StagedBackbone(modules[0], stages)
