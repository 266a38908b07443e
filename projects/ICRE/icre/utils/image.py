"""Read image files of common kinds as 8-bit RGB, and check many of them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from icre.utils.errors import UserError

# Windows leaves Thumbs.db and desktop.ini, macOS ._*.jpg: only these endings count, hidden never.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})

# What Pillow raises for a file that is missing, cut off, not an image, or absurdly large.
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def is_image(name: str) -> bool:
    """Whether a file of that name counts as an image: a known ending in any case, not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any mode; more than 8 bits are stretched from the image's own min to max."""
    if image.mode == "RGB":
        return image
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may hold colours with transparency
    if image.mode.startswith(("I", "F")):
        # A thermal sensor fills a narrow part of its 16 bits: dividing by 256 would leave black.
        values = np.asarray(image, dtype=np.float64)
        span = max(values.max() - values.min(), 1.0)
        image = Image.fromarray(np.rint((values - values.min()) * (255 / span)).astype(np.uint8))
    return image.convert("RGB")


def read_image(source: str | Image.Image) -> Image.Image:
    """An image as 8-bit RGB, turned as its EXIF orientation says.

    Gray, palette, RGBA (alpha is dropped) and 16-bit images (stretched to 0..255) are converted.

    Args:
        source: a file's path, or an image that is opened already.

    Raises:
        UserError: the file is missing or broken; the message names it.
    """
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(ImageOps.exif_transpose(source))
        with Image.open(source) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except _BROKEN as error:
        raise UserError(f"cannot read image {source}: {error}") from None


def _find_fault(path: str) -> tuple[str, str] | None:
    try:
        with Image.open(path) as image:
            # An eighth of the resolution: a JPEG's data is still read to its end, but few of its
            # pixels are computed.
            image.draft("L", (max(image.width // 8, 1), max(image.height // 8, 1)))
            image.load()
    except _BROKEN as error:
        return path, str(error)
    return None


def find_faults(paths: Iterable[str], progress: bool = True) -> Iterator[tuple[str, str]]:
    """Decode every file once and yield (path, reason) for each that cannot be decoded.

    Args:
        paths: image files; duplicates are read once.
        progress: show a progress bar.
    """
    unique = sorted(set(paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = pool.map(_find_fault, unique)
        bar = tqdm(checked, "checking images", len(unique), unit="img", disable=not progress)
        yield from filter(None, bar)


def verify_images(paths: Sequence[str], progress: bool = True) -> None:
    """Decode every file once, so that a broken one stops a run before it starts.

    Args:
        paths, progress: as in `find_faults`.

    Raises:
        UserError: names the first broken file and counts the others.
    """
    faults = list(find_faults(paths, progress))
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        path, reason = faults[0]
        raise UserError(
            f"cannot read image {path}: {reason}{more}: replace it or restore the data set"
        )
