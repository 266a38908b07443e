"""Attention maps: Grad-CAM and two relatives on any layer, MPFR's masks, SDCE's cross-attention.

The CAMs are the `grad-cam` package's. Test identities have no class, so the match is explained in
place of a logit: the dot product of an image's feature and the mean feature of the same person's
images in the other modality, i.e. the logit of a class with these weights.

Shapes: B images of H x W pixels, (h, w) the grid of the layer.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icre.modeling.enhance import Enhanced
from icre.modeling.sdce import SDCE, Attention
from icre.utils.errors import UserError

# Of a map x and the gradient g of the logit there: ReLU of the sum over channels.
CAMS = {
    "gradcam": "GradCAM",  # mean(g) x: Selvaraju et al., ICCV 2017
    "hirescam": "HiResCAM",  # g x: Draelos and Carin, 2020
    "layercam": "LayerCAM",  # [g]_+ x: Jiang et al., TIP 2021
}
FINAL = "final"  # in place of a module's name: the map that the heads pool, F_e or X_4


def grad_cam(
    model: nn.Module, batch: Mapping, layer: str = FINAL, kind: str = "gradcam"
) -> np.ndarray:
    """Explain the match with the same person in the other modality by the cells of a map.

    Args:
        model: any fast-reid model in evaluation mode; its parameters keep no gradient.
        batch: `images` (B, 3, H, W) in 0..255, `modalities` (B,), `targets` (B,) identities, each
            of them with images of both modalities.
        layer: a module's name, such as backbone.stages.layer3, or "final": what the heads read.
        kind: one of CAMS.

    Returns:
        (B, H, W) in 0..1, each image stretched from its minimum to its maximum; all 0 where no
        cell adds to the match.

    Raises:
        UserError: no such layer (names some), its output is no map of all images, or an identity
            without images in the other modality.
    """
    import pytorch_grad_cam  # imports OpenCV, which is slow

    wrapped = _ImagesOnly(model, batch)
    with wrapped.route_final_map(layer == FINAL):
        target = wrapped.final if layer == FINAL else _find_module(model, layer)
        with _recorded(wrapped, lambda *_: True) as calls, torch.no_grad():
            unit = F.normalize(wrapped(batch["images"]).float())
        called = [module for module, _, _ in calls]
        while isinstance(target, nn.Sequential) and target not in called:
            target = target[-1]  # fast-reid's ResNet calls the blocks of a layer one by one
        _check_maps(layer, [output for module, _, output in calls if module is target], len(unit))
        matches = [_Match(centre) for centre in _cross_modal_centres(unit, batch)]
        explainer = getattr(pytorch_grad_cam, CAMS[kind])(wrapped, [target])
        try:  # not the explainer's own context manager, which swallows an IndexError
            return explainer(batch["images"], matches)
        finally:
            explainer.activations_and_grads.release()
            model.zero_grad()


def stage_masks(model: nn.Module, batch: Mapping) -> dict[str, np.ndarray]:
    """MPFR's masks: stage -> (B, h, w) in 0..1; empty where the model has none."""
    with _recorded(model, lambda _, output: isinstance(output, Enhanced)) as calls, torch.no_grad():
        model(_copy(batch))
    masks = calls[0][2].masks if calls else {}
    return {stage: mask[:, 0].float().cpu().numpy() for stage, mask in masks.items()}


def cross_attention(model: nn.Module, batch: Mapping) -> np.ndarray | None:
    """How much SDCE's cross-attention attends to each position of its key/value map.

    The weights softmax(q k^T / sqrt(d / H)) are computed again from the attention's inputs, as the
    fused attention does not give them, and averaged over heads and query positions.

    Returns:
        (B, h, w), each summing to 1; None where the model has no cross-attention.
    """
    modules = [one for one in model.modules() if isinstance(one, SDCE) and one.has_cross]
    if not modules:
        return None
    attention = modules[0].cross_attention
    with (
        _recorded(model, lambda module, _: module in (attention, modules[0])) as calls,
        torch.no_grad(),
    ):
        model(_copy(batch))
        found = {module: (inputs, output) for module, inputs, output in calls}
        weights = attention_weights(attention, *found[attention][0]).mean(dim=(1, 2))  # (B, M)
    return weights.unflatten(1, found[modules[0]][1].shape[-2:]).float().cpu().numpy()


def attention_weights(
    attention: Attention, query_tokens: Tensor, key_value_tokens: Tensor
) -> Tensor:
    """(B, N, d) queries, (B, M, d) keys and values -> weights (B, H, N, M), each row sums to 1."""
    heads = (attention.heads, -1)
    query = attention.query(query_tokens).unflatten(2, heads).transpose(1, 2)  # (B, H, N, d/H)
    key = attention.key_value(key_value_tokens).chunk(2, dim=-1)[0]  # (B, M, d)
    key = key.unflatten(2, heads).transpose(1, 2)  # (B, H, M, d/H)
    return torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, dim=-1)


class _ImagesOnly(nn.Module):
    """A model that takes a batch, wrapped to take its images alone, as `grad-cam` wants it.

    Args:
        model: takes a batch.
        batch: all but its images is passed on.

    Attributes:
        final: sees what the heads read, inside `route_final_map`.
    """

    def __init__(self, model: nn.Module, batch: Mapping):
        super().__init__()
        self.model, self.rest = model, {k: v for k, v in batch.items() if k != "images"}
        self.final = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> features (B, D); fast-reid's models change their images in place."""
        return self.model({**self.rest, "images": images.clone()})

    @contextmanager
    def route_final_map(self, enabled: bool) -> Iterator[None]:
        """While the block runs, pass the heads' input through `final`."""
        if not enabled:
            yield
            return
        if not hasattr(self.model, "heads"):
            raise UserError(
                f"--layer {FINAL}: {type(self.model).__name__} has no part named heads, "
                "name a layer"
            )
        hook = self.model.heads.register_forward_pre_hook(
            lambda _, inputs: (self.final(inputs[0]), *inputs[1:])
        )
        try:
            yield
        finally:
            hook.remove()


class _Match:
    """The explained value: the dot product of a feature (D,) and a centre (D,)."""

    def __init__(self, centre: Tensor):
        self.centre = centre

    def __call__(self, feature: Tensor) -> Tensor:
        return feature @ self.centre


def _cross_modal_centres(unit: Tensor, batch: Mapping) -> Tensor:
    """(B, D) unit features -> (B, D): per image, its identity's mean in the other modality."""
    pids, modalities = batch["targets"].to(unit.device), batch["modalities"].to(unit.device)
    other = (pids[:, None] == pids) & (modalities[:, None] != modalities)  # (B, B)
    unmatched = torch.nonzero(~other.any(1))
    if len(unmatched):
        pid = int(pids[unmatched[0, 0]])
        raise UserError(
            f"identity {pid} has images of one modality only: there is no match to explain"
        )
    return (other.to(unit.dtype) / other.sum(1, keepdim=True)) @ unit


def _find_module(model: nn.Module, layer: str) -> nn.Module:
    names = [name for name, _ in model.named_modules() if name]
    if layer not in names:
        some = [FINAL, *(name for name in names if name.count(".") < 3 and "layer" in name)]
        raise UserError(f"--layer {layer}: no such module; some are {', '.join(some[:8])}")
    return model.get_submodule(layer)


def _check_maps(layer: str, outputs: list[object], images: int) -> None:
    """Raise UserError unless the layer ran once, on all images, and its output is a map."""
    shapes = [tuple(getattr(output, "shape", ())) for output in outputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] != images:
        found = ", ".join(map(str, shapes)) or "nothing"
        raise UserError(
            f"--layer {layer}: Grad-CAM needs one map ({images}, C, h, w) of all images "
            f"(a stem sees one modality only), it gives {found}"
        )


@contextmanager
def _recorded(
    model: nn.Module, wanted: Callable[[nn.Module, object], bool]
) -> Iterator[list[tuple[nn.Module, tuple, object]]]:
    """Record (module, inputs, output) of calls for which `wanted(module, output)`, in the block."""
    calls: list[tuple[nn.Module, tuple, object]] = []

    def keep(module: nn.Module, inputs: tuple, output: object) -> None:
        if wanted(module, output):
            calls.append((module, inputs, output))

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _copy(batch: Mapping) -> dict:
    return {**batch, "images": batch["images"].clone()}
