"""What a model looks at: Grad-CAM and two kin on any layer, MPFR's masks, SDCE's cross-attention.

The three come from the `grad-cam` package. Test identities have no class, so what is explained is the
match itself: an image's feature times the mean feature of the same person's images in the other
modality, which is the logit of a class with these weights.

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

# Of a map x and its gradient g at the logit, summed over channels; what is negative becomes 0.
CAMS = {
    "gradcam": "GradCAM",  # mean(g) x: Selvaraju et al., ICCV 2017
    "hirescam": "HiResCAM",  # g x: Draelos and Carin, 2020
    "layercam": "LayerCAM",  # [g]_+ x: Jiang et al., TIP 2021
}
FINAL = "final"  # not a module's name: the map that the heads pool, F_e or X_4


def grad_cam(
    model: nn.Module, batch: Mapping, layer: str = FINAL, kind: str = "gradcam"
) -> np.ndarray:
    """Where a map speaks for the match with the same person in the other modality.

    Args:
        model: any fast-reid model in evaluation mode, with gradients allowed; none is left in it.
        batch: `images` (B, 3, H, W) in 0..255, `modalities` (B,), `targets` (B,) identities, each
            of them with images of both modalities.
        layer: a module's name, such as backbone.stages.layer3, or "final": what the heads read.
        kind: one of CAMS.

    Returns:
        (B, H, W) in 0..1, each image stretched from its own minimum to its maximum; all 0 where
        no part of the map speaks for the match.

    Raises:
        UserError: no such layer (names some), its output is no map of all images, or an identity
            without images in the other modality.
    """
    import pytorch_grad_cam  # brings OpenCV, which is slow to import

    wrapped = _ImagesOnly(model, batch)
    with wrapped.final_map(layer == FINAL):
        target = wrapped.final if layer == FINAL else _named(model, layer)
        with _outputs(wrapped, lambda *_: True) as seen, torch.no_grad():
            unit = F.normalize(wrapped(batch["images"]).float())
        called = [module for module, _, _ in seen]
        while isinstance(target, nn.Sequential) and target not in called:
            target = target[-1]  # fast-reid's ResNet calls the blocks of a layer one by one
        _check_maps(layer, [output for module, _, output in seen if module is target], len(unit))
        matches = [_Match(centre) for centre in _other_centres(unit, batch)]
        explainer = getattr(pytorch_grad_cam, CAMS[kind])(wrapped, [target])
        try:  # not its own context manager, which swallows an IndexError
            return explainer(batch["images"], matches)
        finally:
            explainer.activations_and_grads.release()
            model.zero_grad()


def stage_masks(model: nn.Module, batch: Mapping) -> dict[str, np.ndarray]:
    """MPFR's masks: stage -> (B, h, w) in 0..1; empty where the model has none."""
    with _outputs(model, lambda _, output: isinstance(output, Enhanced)) as seen, torch.no_grad():
        model(_copy(batch))
    masks = seen[0][2].masks if seen else {}
    return {stage: mask[:, 0].float().cpu().numpy() for stage, mask in masks.items()}


def cross_attention(model: nn.Module, batch: Mapping) -> np.ndarray | None:
    """How much each position of the answering map is attended to in SDCE's first stage.

    The weights softmax(q k^T / sqrt(d / H)) are computed again from the attention's inputs, as the
    fused attention does not give them, and averaged over heads and asking positions.

    Returns:
        (B, h, w), each summing to 1; None where the model has no cross-attention.
    """
    modules = [one for one in model.modules() if isinstance(one, SDCE) and one.order.distils]
    if not modules:
        return None
    attention = modules[0].cross_attention
    with (
        _outputs(model, lambda module, _: module in (attention, modules[0])) as seen,
        torch.no_grad(),
    ):
        model(_copy(batch))
        found = {module: (inputs, output) for module, inputs, output in seen}
        weights = attention_weights(attention, *found[attention][0]).mean(dim=(1, 2))  # (B, M)
    return weights.unflatten(1, found[modules[0]][1].shape[-2:]).float().cpu().numpy()


def attention_weights(attention: Attention, asking: Tensor, answering: Tensor) -> Tensor:
    """(B, N, d) asks, (B, M, d) answers -> the weights (B, H, N, M), each row summing to 1."""
    heads = (attention.heads, -1)
    query = attention.query(asking).unflatten(2, heads).transpose(1, 2)  # (B, H, N, d/H)
    key = attention.key_value(answering).chunk(2, dim=-1)[0].unflatten(2, heads).transpose(1, 2)
    return torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5, dim=-1)


class _ImagesOnly(nn.Module):
    """A model whose forward takes a batch, as one of images alone; `final` sees what heads read."""

    def __init__(self, model: nn.Module, batch: Mapping):
        super().__init__()
        self.model, self.rest = model, {k: v for k, v in batch.items() if k != "images"}
        self.final = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> features (B, D); fast-reid's models change their images in place."""
        return self.model({**self.rest, "images": images.clone()})

    @contextmanager
    def final_map(self, wanted: bool) -> Iterator[None]:
        """Lead the heads' input through `final` while the block runs, if that is wanted."""
        if not wanted:
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
    """A feature (D,) times a centre (D,): what is explained."""

    def __init__(self, centre: Tensor):
        self.centre = centre

    def __call__(self, feature: Tensor) -> Tensor:
        return feature @ self.centre


def _other_centres(unit: Tensor, batch: Mapping) -> Tensor:
    """(B, D) unit features -> per image the mean of its identity's other modality, (B, D)."""
    pids, modalities = batch["targets"].to(unit.device), batch["modalities"].to(unit.device)
    other = (pids[:, None] == pids) & (modalities[:, None] != modalities)  # (B, B)
    alone = torch.nonzero(~other.any(1))
    if len(alone):
        pid = int(pids[alone[0, 0]])
        raise UserError(
            f"identity {pid} has images of one modality only: there is no match to explain"
        )
    return (other.to(unit.dtype) / other.sum(1, keepdim=True)) @ unit


def _named(model: nn.Module, layer: str) -> nn.Module:
    names = [name for name, _ in model.named_modules() if name]
    if layer not in names:
        some = [FINAL, *(name for name in names if name.count(".") < 3 and "layer" in name)]
        raise UserError(f"--layer {layer}: no such module; some are {', '.join(some[:8])}")
    return model.get_submodule(layer)


def _check_maps(layer: str, outputs: list[object], images: int) -> None:
    """A UserError unless the layer ran once, on all images, and gave a map."""
    shapes = [tuple(getattr(output, "shape", ())) for output in outputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] != images:
        found = ", ".join(map(str, shapes)) or "nothing"
        raise UserError(
            f"--layer {layer}: Grad-CAM needs one map ({images}, C, h, w) of all images "
            f"(a stem sees one modality only), it gives {found}"
        )


@contextmanager
def _outputs(
    model: nn.Module, wanted: Callable[[nn.Module, object], bool]
) -> Iterator[list[tuple[nn.Module, tuple, object]]]:
    """(module, inputs, output) of the wanted calls while the block runs."""
    seen: list[tuple[nn.Module, tuple, object]] = []

    def keep(module: nn.Module, inputs: tuple, output: object) -> None:
        if wanted(module, output):
            seen.append((module, inputs, output))

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _copy(batch: Mapping) -> dict:
    return {**batch, "images": batch["images"].clone()}
