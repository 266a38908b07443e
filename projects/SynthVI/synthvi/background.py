"""Paint the background of a place as seen in one modality."""

import numpy as np
from scipy import ndimage

from synthvi import portable_math
from synthvi.modality import VISIBLE
from synthvi.place import Panel, Place

WIDER, TALLER = 5.0, 1.15  # size of the panorama in image widths and image heights


def paint_panorama(
    place: Place, modality: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Paint the panorama for images of one size, (H, W) = (TALLER * height, WIDER * width).

    Returns:
        Reflectance (C, H, W) float32, and the distance of each point behind the person (H, W) in
        body heights.
    """
    rows, cols = int(TALLER * height), int(WIDER * width)
    y = ((np.arange(rows, dtype=np.float32) + 0.5) / height)[:, None]
    x = ((np.arange(cols, dtype=np.float32) + 0.5) / height)[None, :]
    ground = place.horizon * TALLER
    near = np.maximum(y - ground, 0) + 0.08
    across = (x - x.mean()) * 0.4 / near
    wall = place.wall.colour(modality, y + 0 * x, x + 0 * y, height)
    floor = place.floor.colour(modality, 0.11 / near + 0 * x, 0.6 * across, 0.3 * height * near)
    grain = _grain(place, rows, cols, height)
    channels = 3 if modality == VISIBLE else 1
    image = np.broadcast_to(wall * (1 + 0.08 * grain[0]), (channels, rows, cols)).copy()
    below = np.clip((y - ground) * height + 0.5, 0, 1)
    image += below * (floor * (0.85 + 0.25 * (y - ground)) * (1 + 0.10 * grain[0]) - image)
    for panel in place.panels:
        _paint_panel(image, panel, modality, x, y, height, grain)
    distance = place.depth * np.clip((TALLER * 0.9 - y) / (TALLER * 0.9 - ground), 0, 1)
    return np.clip(image, 0.005, 1), np.broadcast_to(distance, (rows, cols)).astype(np.float32)


def _grain(place: Place, rows: int, cols: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Coarse stains and fine blotches (leaves, bark), both of unit standard deviation.

    The noise is sampled on a fixed grid, so that a place has the same stains at every image size.
    """
    rng = np.random.default_rng(place.seed)
    fields = []
    for points, sigma in ((24, 1.2), (110, 0.8)):
        noise = rng.standard_normal((points, 3 * points))
        noise = ndimage.gaussian_filter(noise, sigma, mode="wrap")
        noise = ndimage.zoom(noise / noise.std(), (rows / points, cols / (3 * points)), order=1)
        fields.append(noise[:rows, :cols].astype(np.float32))
    return fields[0], fields[1]


def _paint_panel(
    image: np.ndarray,
    panel: Panel,
    modality: int,
    x: np.ndarray,
    y: np.ndarray,
    px: int,
    grain: tuple[np.ndarray, np.ndarray],
) -> None:
    """Paint a panel into `image` (C, H, W) in place."""
    left, top, right, bottom = (np.float32(v) for v in panel.box)
    left, right = left * x.max(), right * x.max()
    top, bottom = top * TALLER, bottom * TALLER
    if panel.oval:
        wide, high = (right - left) / 2, (bottom - top) / 2
        off = portable_math.hypot((x - left - wide) / wide, (y - top - high) / high)
        edge = 0.15 * grain[1] * (panel.grain > 0.3)
        inside = np.clip((1 - off + edge) * min(wide, high) * px + 0.5, 0, 1)
    else:
        inside = (
            np.clip((x - left) * px + 0.5, 0, 1)
            * np.clip((right - x) * px + 0.5, 0, 1)
            * np.clip((y - top) * px + 0.5, 0, 1)
            * np.clip((bottom - y) * px + 0.5, 0, 1)
        )
        foot = np.clip(1.4 - 12 * np.abs(y - bottom - 0.02), 0, 1) * np.clip((x - left) * px, 0, 1)
        image *= 1 - 0.2 * foot * np.clip((right - x) * px, 0, 1) * (y > bottom)
    colour = panel.cloth.colour(modality, y + 0 * x, x + 0 * y, px)
    mottled = colour * np.maximum(1 + panel.grain * grain[1], 0.15)
    image += inside * (mottled * (1.08 - 0.2 * (y - top)) - image)
