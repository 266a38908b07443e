"""timm's networks as backbones, by name: MODEL.BACKBONE.NAME build_timm_backbone.

Any network of timm (extra `timm`) that can return its maps (`forward_intermediates`) and whose
first layers can be taken out, which is tried when it is built. Of networks with more than four
maps the last four are taken, of transformers four at equal distances, the last block's the last.

Shapes: B images of H x W pixels.
"""

import difflib
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY

from icre.modeling.backbone import STAGES, StagedBackbone, run_once
from icre.modeling.pretrained import load_pretrained, pretrained_file
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")

KEY = "MODEL.BACKBONE.TIMM"
MOST_MAPS = 6  # a convolutional network has a map per stride; more: one per transformer block


class TimmStages(nn.Module):
    """A timm network without its first layers: their result -> its maps by name.

    Args:
        model: the network; where it is a part, its first layers do nothing.
        indices: of its four maps, in timm's numbering.
    """

    def __init__(self, model: nn.Module, indices: Sequence[int]):
        super().__init__()
        self.model = model
        self.indices = list(indices)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, C0, h0, w0) -> layer1..layer4, each (B, C, h, w)."""
        maps = self.model.forward_intermediates(  # type: ignore[operator]
            x, indices=self.indices, norm=False, output_fmt="NCHW", intermediates_only=True
        )
        return dict(zip(STAGES, maps))


class PatchMap(nn.Module):
    """A transformer's patch embedding, as a map: (B, 3, H, W) -> (B, D, h, w)."""

    def __init__(self, patch_embed: Any):
        super().__init__()
        self.patch_embed = patch_embed

    def forward(self, images: Tensor) -> Tensor:
        """Its tokens, (B, h*w, D), as a map."""
        h, w = self.patch_embed.dynamic_feat_size(images.shape[-2:])
        return self.patch_embed(images).transpose(1, 2).unflatten(2, (h, w))


class Tokens(nn.Module):
    """In the patch embedding's place: (B, D, h, w) -> (B, h*w, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """The map as tokens."""
        return x.flatten(2).transpose(1, 2)

    def dynamic_feat_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Grid of an input of (h, w): the same."""
        return size[0], size[1]


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode) -> StagedBackbone:
    """Build timm's network `MODEL.BACKBONE.TIMM` for images of `INPUT.SIZE_TEST`.

    `LAST_STRIDE` 1 asks for a total stride of 16, which not every network has; the log says which
    it is. Weights as `PRETRAIN` and `PRETRAIN_PATH` say; without a path they are timm's.

    Raises:
        UserError: timm is not installed, has no such network, or the network cannot be taken apart.
    """
    node = cfg.MODEL.BACKBONE
    size = tuple(cfg.INPUT.SIZE_TEST)
    model = _create(
        node.TIMM, size, node.LAST_STRIDE == 1, node.PRETRAIN and not node.PRETRAIN_PATH
    )
    if node.PRETRAIN and node.PRETRAIN_PATH:
        load_pretrained(model, pretrained_file(cfg), KEY)
    try:
        backbone, grids = _take_apart(model, size)
    except UserError:
        raise
    except Exception as error:  # of any network's code
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"{KEY} {node.TIMM}: two streams of it cannot be made ({type(error).__name__}: "
            f"{reason}); take another network"
        ) from error
    logger.info("%s %s at %dx%d: maps of %s", KEY, node.TIMM, *size, ", ".join(grids))
    return backbone


def _create(name: str, size: tuple[int, int], short: bool, pretrained: bool) -> Any:
    try:
        import timm
    except ImportError:
        raise UserError(f"{KEY} {name} needs the package timm: pip install 'icre[timm]'") from None
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        hint = f"near it are {', '.join(near)}" if near else "timm.list_models() lists them"
        raise UserError(f"{KEY}: timm {timm.__version__} has no network {name!r}; {hint}")
    options: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
    optional: list[dict[str, Any]] = [{"img_size": size}]
    if short:
        optional.append({"output_stride": 16})
    for option in optional:
        try:  # a transformer knows no output_stride, most others no img_size
            timm.create_model(name, **{**options, "pretrained": False}, **option)
        except (TypeError, NotImplementedError, AssertionError):
            continue
        options |= option
    try:
        return timm.create_model(name, **options)
    except Exception as error:  # of the hub, or of any network's code
        reason = " ".join(str(error).split())[:150]
        cure = "; name a file in MODEL.BACKBONE.PRETRAIN_PATH" if pretrained else ""
        raise UserError(
            f"{KEY} {name}: timm cannot build it ({type(error).__name__}: {reason}){cure}"
        ) from error


def _take_apart(model: Any, size: tuple[int, int]) -> tuple[StagedBackbone, list[str]]:
    """Stem and stages of a network, proved on an image; and its maps' sizes as text."""
    if not hasattr(model, "forward_intermediates"):
        raise UserError(f"timm's {type(model).__name__} gives no maps; take another network")
    count = len(model.feature_info)
    if count < len(STAGES):
        raise UserError(f"timm's {type(model).__name__} has {count} maps, {len(STAGES)} are needed")
    step = count / len(STAGES) if count > MOST_MAPS else 1
    indices = [count - 1 - round(step * i) for i in reversed(range(len(STAGES)))]
    if hasattr(model, "prune_intermediate_layers"):  # a layer without use would get no gradient
        indices = model.prune_intermediate_layers(indices, prune_norm=True, prune_head=True)
    image = torch.linspace(-2, 2, 3 * size[0] * size[1]).view(1, 3, *size)
    stages = TimmStages(model, indices)
    whole = run_once(stages, image)
    stem = _cut_stem(model)
    backbone = StagedBackbone(stem, stages, {name: x.shape[1] for name, x in whole.items()})
    maps = run_once(backbone.stages, run_once(backbone.stem, image))
    for name, expected in whole.items():
        if not torch.allclose(maps[name], expected, rtol=1e-4, atol=1e-5):
            raise UserError(
                f"timm's {type(model).__name__} does not begin with its first layer, so two "
                "streams of it cannot be made; take another network"
            )
    return backbone, [f"{s} {x.shape[1]}x{x.shape[2]}x{x.shape[3]}" for s, x in whole.items()]


def _cut_stem(model: Any) -> nn.Module:
    """Take the first layer and the norm behind it out of a network, and return them."""
    patch_embed = getattr(model, "patch_embed", None)
    if getattr(patch_embed, "flatten", False):
        model.patch_embed = Tokens()
        return PatchMap(patch_embed)
    stem = nn.Sequential()
    for name, child in list(model.named_children()):
        parameters = any(True for _ in child.parameters())
        if parameters and len(stem) and (len(stem) > 1 or not _is_norm(child)):
            break
        if parameters:
            stem.add_module(name, child)
            setattr(model, name, nn.Identity())
    return stem


def _is_norm(module: nn.Module) -> bool:
    """Whether a layer's parameters are all vectors: a scale and an offset per channel."""
    return all(parameter.dim() == 1 for parameter in module.parameters())
