"""Pictures for TensorBoard; losses, learning rate and figures go there by fast-reid's writers."""

from pathlib import Path

import numpy as np
from PIL import Image

import icre.compat  # noqa: F401

from fastreid.utils.events import get_event_storage


def show_picture(name: str, path: Path) -> None:
    """Hand an image file to the run's TensorBoard events; nothing is done outside of training.

    Args:
        name: under which it stands there.
        path: of the image.
    """
    try:
        storage = get_event_storage()
    except AssertionError:  # fast-reid's way to say that nothing is being trained
        return
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    storage.put_image(name, pixels.transpose(2, 0, 1).copy())
