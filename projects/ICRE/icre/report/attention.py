"""Test images of some people, and attention maps of models over them."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.data.batch import to_device
from icre.data.dataset import CrossModalDataset
from icre.data.loader import collate
from icre.data.pipeline import build_pipeline
from icre.datasets import load_dataset
from icre.inference.attention import CAMS, FINAL, cross_attention, grad_cam, stage_masks
from icre.inference.extractor import FeatureExtractor
from icre.modality import INFRARED, VISIBLE
from icre.plots.maps import MapBlock, draw_maps
from icre.plots.style import PAGE
from icre.utils.device import resolve_device
from icre.utils.errors import UserError
from icre.utils.image import read_image
from icre.utils.progress import progress_bar


@dataclass(frozen=True)
class People:
    """Test images of some people.

    Args:
        items: (path, pid, camid) of each image.
        modalities: of each image.
    """

    items: Sequence[tuple[str, int, int]]
    modalities: Sequence[int]

    @property
    def pids(self) -> list[int]:
        """Identity of each image."""
        return [pid for _, pid, _ in self.items]

    def pictures(self, size: Sequence[int]) -> list[Image.Image]:
        """The images in the proportions of `size` (H, W), at least 192 pixels high."""
        height = max(192, size[0])
        shape = (round(height * size[1] / size[0]), height)
        return [read_image(path).resize(shape, Image.BICUBIC) for path, _, _ in self.items]

    def batch(self, cfg: CfgNode, device: torch.device) -> dict:
        """One batch of all images, prepared as for a test with `cfg`."""
        pipeline = build_pipeline(cfg, is_train=False, count=len(self.items))
        data = CrossModalDataset(self.items, self.modalities, pipeline, relabel=False)
        return to_device(collate([data[row] for row in range(len(data))]), device)


def choose_people(
    cfg: CfgNode, pick: Sequence[int] | None, people: int, images: int, seed: int
) -> People:
    """Choose test images of people who are seen in both modalities.

    Args:
        cfg: the data set is its DATASETS.TESTS[0].
        pick: identities; None: `people` of them at random.
        people: how many identities.
        images: at most as many of an identity in a modality, evenly spaced.
        seed: of the random choice.

    Raises:
        UserError: an identity that is not seen in both modalities, or too few, or no image.
    """
    if images < 1 or people < 1:
        raise UserError("--images and --people must be at least 1")
    data = load_dataset(cfg, cfg.DATASETS.TESTS[0])
    seen: dict[int, dict[int, list]] = {}
    for item in sorted(data.query + data.gallery):
        modality = data.modality_of(item[0])
        seen.setdefault(item[1], {VISIBLE: [], INFRARED: []})[modality].append(item)
    both = sorted(pid for pid, items in seen.items() if items[VISIBLE] and items[INFRARED])
    if pick is None:
        if people > len(both):
            raise UserError(f"--people {people}: {len(both)} are seen in both modalities")
        pick = sorted(random.Random(seed).sample(both, people))
    unknown = [pid for pid in pick if pid not in both]
    if unknown:
        raise UserError(
            f"identity {unknown[0]} is not seen in both modalities; {len(both)} are, "
            f"such as {', '.join(map(str, both[:8]))}"
        )
    chosen = [
        (item, modality)
        for pid in dict.fromkeys(pick)
        for modality in (VISIBLE, INFRARED)
        for item in _evenly_spaced(seen[pid][modality], images)
    ]
    return People([item for item, _ in chosen], [modality for _, modality in chosen])


def _evenly_spaced(items: list, count: int) -> list:
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items)), dtype=int)]


def _cam(kind: str, name: str, model: torch.nn.Module, batch: dict, layer: str) -> list[MapBlock]:
    where = "" if layer == FINAL else f"\n{layer.removeprefix('backbone.')}"
    title = CAMS[kind].replace("GradCAM", "Grad-CAM")
    return [MapBlock(f"{name}\n{title}{where}", grad_cam(model, batch, layer, kind))]


def _masks(name: str, model: torch.nn.Module, batch: dict, layer: str) -> list[MapBlock]:
    found = stage_masks(model, batch)
    return [MapBlock(f"{name}\nmask {stage}", mask, True) for stage, mask in found.items()]


def _cross(name: str, model: torch.nn.Module, batch: dict, layer: str) -> list[MapBlock]:
    found = cross_attention(model, batch)
    return [] if found is None else [MapBlock(f"{name}\ncross-attention", found)]


# name -> (model's name, model, batch, layer -> blocks; none where the model has no such part)
SHOWN: dict[str, Callable[[str, torch.nn.Module, dict, str], list[MapBlock]]] = {
    **{kind: partial(_cam, kind) for kind in CAMS},
    "masks": _masks,
    "cross": _cross,
}


def check_shown(show: Sequence[str]) -> None:
    """Raise UserError if one of `show` is no key of SHOWN."""
    unknown = [what for what in show if what not in SHOWN]
    if unknown:
        raise UserError(f"--show {unknown[0]}: use {', '.join(SHOWN)}")


def draw_attention(
    models: Iterable[tuple[str, FeatureExtractor]],
    people: People,
    show: Sequence[str],
    layer: str = FINAL,
    width: float = PAGE,
) -> Figure:
    """Attention maps of models over the same images, a block of rows per model and map.

    Args:
        models: (name, model), at least one; of a generator only one model is in memory at a time.
        people: the images, shown in the proportions of the first model's input.
        show: keys of SHOWN; what a model lacks is left out.
        layer: see `grad_cam`.
        width: inches.

    Raises:
        UserError: an unknown key, or nothing to draw.
    """
    check_shown(show)
    sizes, blocks = [], []
    for name, extractor in progress_bar(models, "models", leave=False):
        cfg = extractor.cfg
        sizes.append(cfg.INPUT.SIZE_TEST)
        batch = people.batch(cfg, resolve_device(cfg.MODEL.DEVICE))
        for what in show:
            blocks += SHOWN[what](name, extractor.model.eval(), batch, layer)
    if not blocks:
        raise UserError(f"none of the models has {' or '.join(show)}: there is nothing to draw")
    return draw_maps(people.pictures(sizes[0]), people.pids, people.modalities, blocks, width)
