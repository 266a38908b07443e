"""Images of some people, and what models look at in them."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

import icre.compat

from fastreid.config import CfgNode

import icre.engine  # noqa: F401
from icre.data.dataset import CrossModalDataset
from icre.data.image import read_image
from icre.data.loader import collate, load_dataset
from icre.data.pipeline import build_pipeline
from icre.engine.setup import resolve_device
from icre.engine.step import to_device
from icre.inference.attention import CAMS, FINAL, cross_attention, grad_cam, stage_masks
from icre.inference.embedder import Embedder
from icre.modality import INFRARED, VISIBLE
from icre.plots.maps import MapBlock, draw_maps
from icre.plots.style import PAGE
from icre.utils.errors import UserError


@dataclass(frozen=True)
class People:
    """Test images of some people.

    Args:
        items: (path, pid, camid) of each image.
        modalities: of each.
    """

    items: Sequence[tuple[str, int, int]]
    modalities: Sequence[int]

    @property
    def pids(self) -> list[int]:
        """Identity of each image."""
        return [pid for _, pid, _ in self.items]

    def pictures(self, size: Sequence[int]) -> list[Image.Image]:
        """The images, at a height of at least 192 pixels, all in the shape of `size` (H, W)."""
        height = max(192, size[0])
        shape = (round(height * size[1] / size[0]), height)
        return [read_image(path).resize(shape, Image.BICUBIC) for path, _, _ in self.items]

    def batch(self, cfg: CfgNode, device: torch.device) -> dict:
        """The images as a model of `cfg` is tested with."""
        pipeline = build_pipeline(cfg, is_train=False, count=len(self.items))
        data = CrossModalDataset(self.items, self.modalities, pipeline, relabel=False)
        return to_device(collate([data[row] for row in range(len(data))]), device)


def choose_people(
    cfg: CfgNode, pick: Sequence[int] | None, people: int, images: int, seed: int
) -> People:
    """Test images of people who are seen in both modalities.

    Args:
        cfg: the data set is its DATASETS.TESTS[0].
        pick: identities; None: `people` of them at random.
        images: at most so many of a person in a modality, at even distances over its images.
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
    both = sorted(pid for pid, own in seen.items() if own[VISIBLE] and own[INFRARED])
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
        for item in _even(seen[pid][modality], images)
    ]
    return People([item for item, _ in chosen], [modality for _, modality in chosen])


def _even(items: list, count: int) -> list:
    places = np.linspace(0, len(items) - 1, min(count, len(items)), dtype=int)
    return [items[place] for place in places]


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


# (model's name, model, batch, layer) -> its blocks, none where the model has no such part
SHOWN: dict[str, Callable[[str, torch.nn.Module, dict, str], list[MapBlock]]] = {
    **{kind: partial(_cam, kind) for kind in CAMS},
    "masks": _masks,
    "cross": _cross,
}


def draw_attention(
    configs: Mapping[str, CfgNode],
    weights: Mapping[str, Path],
    choose: Callable[[CfgNode], People],
    show: Sequence[str],
    layer: str = FINAL,
    width: float = PAGE,
) -> Figure:
    """What models look at in the same images, a block of rows per model and map.

    Args:
        configs, weights: of each model by its name; the images are of the first one's data set.
        choose: takes the images of it.
        show: keys of SHOWN; what a model lacks is left out.
        layer: see `grad_cam`.
        width: inches.

    Raises:
        UserError: an unknown key, or nothing to draw.
    """
    unknown = [what for what in show if what not in SHOWN]
    if unknown:
        raise UserError(f"--show {unknown[0]}: use {', '.join(SHOWN)}")
    first = next(iter(configs.values()))
    people = choose(first)
    blocks = []
    for name, cfg in tqdm(configs.items(), "models", leave=False, disable=None):
        model = Embedder(cfg, weights[name]).model.eval()
        batch = people.batch(cfg, resolve_device(cfg.MODEL.DEVICE))
        for what in show:
            blocks += SHOWN[what](name, model, batch, layer)
    if not blocks:
        raise UserError(f"none of the models has {' or '.join(show)}: there is nothing to draw")
    pictures = people.pictures(first.INPUT.SIZE_TEST)
    return draw_maps(pictures, people.pids, people.modalities, blocks, width)
