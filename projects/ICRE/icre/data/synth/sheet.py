"""Contact sheets: look at the rendered people before believing them."""

from pathlib import Path

import numpy as np
from PIL import Image

from .camera import make_camera
from .layout import SYSU_CAMERAS
from .person import sample_person
from .render import render, sample_moment


def contact_sheet(seed: int, size: tuple[int, int], identities: int = 8, each: int = 3,
                  enlarge: int = 1) -> Image.Image:
    """Rows are identities 1..`identities`, columns the six cameras of SYSU with `each` images.

    `size` is (height, width) of an image; `enlarge` repeats pixels, to look at small ones.
    """
    gap = np.full((size[0], max(size[1] // 16, 2), 3), 255, np.uint8)
    rows = []
    for pid in range(1, identities + 1):
        person, row = sample_person(seed, pid), []
        for spec in SYSU_CAMERAS:
            camera = make_camera(seed, spec, size)
            for frame in range(1, each + 1):
                words = (pid, spec.number, frame)
                moment = sample_moment(np.random.default_rng([seed, 31, *words]))
                row.append(render(person, camera, moment, np.random.default_rng([seed, 37, *words])))
            row.append(gap)
        rows.append(np.hstack(row[:-1]))
    sheet = Image.fromarray(np.vstack(rows))
    return sheet.resize((sheet.width * enlarge, sheet.height * enlarge), Image.Resampling.NEAREST)


def save_sheet(path: Path, seed: int, size: tuple[int, int], identities: int = 8) -> None:
    """Write a contact sheet as PNG or JPEG, by the ending of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(seed, size, identities, enlarge=max(1, 96 // size[0])).save(path)
