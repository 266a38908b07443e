"""Attention maps laid over images (the paper's Fig. 5)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from PIL import Image

from icre.modality import INFRARED, VISIBLE
from icre.plots.style import PAGE, new_figure, styled
from icre.utils.errors import UserError

COLOUR_MAP = "inferno"  # brightness rises with the value, also in gray
OPACITY = 0.55
# Margins in widths of an image: left of the first, above it, between people, below a block.
SIDE, TOP, PERSON, BLOCK = 0.65, 0.35, 0.15, 0.12
BAR = 0.45  # inches for the colour bar
_ROWS = {VISIBLE: "VIS", INFRARED: "IR"}


@dataclass(frozen=True)
class MapBlock:
    """Maps of all images with one label.

    Args:
        label: model and kind of map, shown at the left.
        maps: one (h, w) array per image, any values.
        absolute: show values in 0..1 as they are; else stretch each map from its minimum to its
            maximum.
    """

    label: str
    maps: Sequence[np.ndarray]
    absolute: bool = False


@styled
def draw_maps(
    images: Sequence[Image.Image],
    pids: Sequence[int],
    modalities: Sequence[int],
    blocks: Sequence[MapBlock],
    width: float = PAGE,
) -> Figure:
    """The images, then each block: a row of visible images above a row of infrared ones.

    A person's images share the columns of both rows.

    Args:
        images: of some people, all of one size.
        pids, modalities: of each image.
        blocks: maps of these images, in their order.
        width: inches.

    Raises:
        UserError: no image.
    """
    if not len(images):
        raise UserError("the selection is empty: there is no image to draw")
    cells = _grid_cells(pids, modalities)
    columns = 1 + max(column for _, column in cells)
    shift = {pid: PERSON * number for number, pid in enumerate(dict.fromkeys(pids))}
    across = columns + max(shift.values())
    aspect = images[0].height / images[0].width
    block_height = 2 * aspect + BLOCK
    stacked = [MapBlock("images", [None] * len(images)), *blocks]
    scale = (width - BAR) / (across + SIDE)  # inches that an image is wide
    figure = new_figure(width, scale * (block_height * len(stacked) + TOP))
    axes = figure.add_subplot()
    for number, block in enumerate(stacked):
        top = number * block_height
        for image, one, (row, column), pid in zip(images, block.maps, cells, pids):
            _overlay(axes, image, one, block.absolute, column + shift[pid], top + row * aspect)
        _label(axes, -0.42, top + aspect, block.label, 6.5)
        for row, text in enumerate(_ROWS.values()):
            _label(axes, -0.12, top + (row + 0.5) * aspect, text, 5.5)
    for pid in shift:
        used = [column for (_, column), other in zip(cells, pids) if other == pid]
        axes.text((min(used) + max(used) + 1) / 2 + shift[pid], -0.06, f"id {pid}", ha="center")
    axes.set(xlim=(-SIDE, across), ylim=(block_height * len(stacked), -TOP), aspect="equal")
    axes.axis("off")
    _colour_bar(figure, axes, blocks, 1 / len(stacked))
    return figure


def _label(axes: Axes, x: float, y: float, text: str, size: float) -> None:
    axes.text(x, y, text, rotation=90, ha="center", va="center", fontsize=size)


def _grid_cells(pids: Sequence[int], modalities: Sequence[int]) -> list[tuple[int, int]]:
    """(row, column) of each image in a block; people from left to right in their first order."""
    starts, start = {}, 0
    for pid in dict.fromkeys(pids):
        starts[pid] = start
        seen = [modality for other, modality in zip(pids, modalities) if other == pid]
        start += max(seen.count(modality) for modality in _ROWS)
    used: dict[tuple[int, int], int] = {}
    cells = []
    for pid, modality in zip(pids, modalities):
        used[pid, modality] = used.get((pid, modality), -1) + 1
        cells.append((list(_ROWS).index(modality), starts[pid] + used[pid, modality]))
    return cells


def _overlay(
    axes: Axes, image: Image.Image, one: np.ndarray | None, absolute: bool, left: float, top: float
) -> None:
    extent = (left + 0.02, left + 0.98, top + image.height / image.width - 0.02, top + 0.02)
    gray = image if one is None else image.convert("L").convert("RGB")
    axes.imshow(np.asarray(gray), extent=extent, interpolation="antialiased")
    if one is None:
        return
    if not absolute:
        span = one.max() - one.min()
        one = (one - one.min()) / span if span > 0 else np.zeros_like(one)
    large = Image.fromarray(one.astype(np.float32)).resize(image.size, Image.BILINEAR)
    axes.imshow(np.asarray(large), extent=extent, cmap=COLOUR_MAP, alpha=OPACITY, vmin=0, vmax=1)


def _colour_bar(figure: Figure, axes: Axes, blocks: Sequence[MapBlock], height: float) -> None:
    """Add a colour bar, `height` of the figure high; stretched maps have no unit."""
    if not blocks:
        return
    bar = figure.colorbar(
        ScalarMappable(cmap=COLOUR_MAP), ax=axes, shrink=height, aspect=20, pad=0.01, ticks=[0, 1]
    )
    stretched = not all(block.absolute for block in blocks)
    bar.ax.set_yticklabels(["low", "high"] if stretched else ["0", "1"])
    bar.outline.set_visible(False)
