"""Contact sheets: look at the rendered people before believing them."""

from pathlib import Path

import numpy as np
from PIL import Image

from .layout import DemoOptions, Shot, plan, render_shot

SMALL = 96  # images lower than this are enlarged, pixel by pixel


def contact_sheet(options: DemoOptions, identities: int = 8, each: int = 3) -> Image.Image:
    """The tree's own images: a row per identity (1 to `identities`), `each` images per camera."""
    shown = {}
    for shot in plan(options).shots:
        if shot.pid <= identities:
            shown.setdefault(shot.pid, {}).setdefault(shot.camera, []).append(shot)
    rows = [np.hstack([_strip(options, shots[:each]) for _, shots in sorted(
        cameras.items(), key=lambda item: (item[0].number, item[0].modality))])
        for _, cameras in sorted(shown.items())]
    wide = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 2), (0, wide - row.shape[1]), (0, 0)), constant_values=255)
            for row in rows]
    sheet = Image.fromarray(np.vstack(rows))
    enlarge = -(-SMALL // options.height)
    return sheet.resize((sheet.width * enlarge, sheet.height * enlarge), Image.Resampling.NEAREST)


def _strip(options: DemoOptions, shots: list[Shot]) -> np.ndarray:
    images = np.hstack([render_shot(options, shot)[0] for shot in shots])
    return np.pad(images, ((0, 0), (0, 4), (0, 0)), constant_values=255)


def save_sheet(path: Path, options: DemoOptions, identities: int = 8) -> None:
    """Write a contact sheet as PNG or JPEG, by the ending of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(options, identities).save(path)
