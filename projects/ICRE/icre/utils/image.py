"""Read image files of known formats as 8-bit RGB, and check many of them.

This is the only place that opens a user's image: training, checks, galleries, the predictor and
figures share it, so all of them accept and refuse the same files.
"""

import io
import logging
import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Importing a plugin registers its format; without, Pillow imports all that it has.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from icre.utils.errors import UserError
from icre.utils.progress import progress_bar

logger = logging.getLogger("fastreid.icre")

# The formats that are opened, whatever a file's name, and the names that count as images. All are
# decoded by libraries inside this process; Pillow starts Ghostscript on an EPS, for example.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)


def _pixel_limit() -> int:
    text = os.environ.get("ICRE_MAX_PIXELS", str(64 * 2**20))
    if not (text.isdecimal() and int(text)):
        raise UserError(f"ICRE_MAX_PIXELS is {text!r}: set it to a number of pixels, or not at all")
    return int(text)


# Eight 4K frames; half a megabyte of PNG can declare far more than a machine's memory.
MAX_PIXELS = _pixel_limit()
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)
# Ours is the stricter limit; Pillow's warning would be a second line.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of damaged EXIF blocks

_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
_warned: set[str] = set()


class Crop(NamedTuple):
    """A box in an image file.

    Args:
        path: of the file.
        x, y, width, height: in whole pixels of the image as `read_image` returns it (upright). What
            is outside of the image is cut off.
    """

    path: str
    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.path}, box {self.x},{self.y},{self.width},{self.height}"

    def inside(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(left, upper, right, lower) of the part inside an image of (width, height).

        Raises:
            ValueError: nothing of the box is inside.
        """
        left, upper = max(self.x, 0), max(self.y, 0)
        right, lower = min(self.x + self.width, size[0]), min(self.y + self.height, size[1])
        if right <= left or lower <= upper:
            raise ValueError(f"the box has no area inside the image of {size[0]} x {size[1]}")
        return left, upper, right, lower


def is_image(name: str) -> bool:
    """Whether a file of that name counts as an image: a known ending in any case, not hidden.

    Windows leaves Thumbs.db and desktop.ini in folders, macOS ._*.jpg.
    """
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def read_image(source: str | Path | Crop | Image.Image) -> Image.Image:
    """An image as 8-bit RGB, turned as its EXIF orientation says; of several frames the first.

    Gray, palette and RGBA images (alpha is dropped) are converted. Gray images of more than 8 bits
    are stretched to 0..255, see `_stretch`.

    Args:
        source: a file's path, a box in a file, or an image that is opened already.

    Raises:
        UserError: the file is missing, no regular file, in none of FORMATS, broken, or has more
            than MAX_PIXELS pixels, or a box has no area inside it; the message names it.
    """
    if isinstance(source, Image.Image):
        try:
            return _convert(source, "an image in memory")
        except Exception as error:
            raise UserError(f"cannot read image {source}: {_reason(error)}") from None
    fault, image = _read(source)
    if image is None:
        raise UserError(f"cannot read image {source}: {fault}")
    return image


def decode_image(content: bytes, most: int = MAX_PIXELS) -> tuple[Image.Image, str]:
    """Like `read_image`, of the content of a file.

    Args:
        content: bytes of a file in one of FORMATS.
        most: pixels.

    Returns:
        The image, and its format: a key of FORMATS.

    Raises:
        UserError: it is in none of FORMATS, broken, or has more pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as image:
            _check_size(image, min(most, MAX_PIXELS))
            # Pillow calls a JPEG file of several pictures (phones write them) MPO
            form = image.format if image.format in FORMATS else "JPEG"
            return _convert(image, "an image in memory"), form
    except Exception as error:
        raise UserError(f"cannot read the image: {_reason(error)}") from None


def find_faults(
    paths: Iterable[str | Crop], progress: bool = True
) -> Iterator[tuple[str | Crop, str]]:
    """Read every file and yield (path, reason) for each that `read_image` refuses.

    Args:
        paths: image files, or boxes in them; duplicates are read once.
        progress: show a progress bar.
    """
    unique = sorted(set(paths), key=str)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = pool.map(lambda path: _read(path, check=True)[0], unique)
        bar = progress_bar(
            checked, "checking images", total=len(unique), unit="img", disable=not progress
        )
        yield from ((path, fault) for path, fault in zip(unique, bar) if fault)


def verify_images(paths: Sequence[str | Crop], progress: bool = True) -> None:
    """Read every file once, so that a broken one stops a run before it starts.

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


def _read(source: str | Path | Crop, check: bool = False) -> tuple[str, Image.Image | None]:
    """(reason why not, None) or ("", the image as 8-bit RGB).

    Args:
        check: a JPEG comes in an eighth of its resolution: its data is still read to its end, but
            few of its pixels are computed.
    """
    box = source if isinstance(source, Crop) else None
    path: str | Path = source.path if isinstance(source, Crop) else source
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block
            return "it is no regular file", None
        with Image.open(path, formats=tuple(FORMATS)) as image:
            _check_size(image, MAX_PIXELS, " (raise it by ICRE_MAX_PIXELS)")
            width, height = image.size
            if _is_cut(image):
                _warn(str(path), "16-bit colour is read by its upper 8 bits")
            if box:
                turned = _orientation(image) in _SIDEWAYS
                box.inside((height, width) if turned else (width, height))
            if check and image.draft("L", (max(width // 8, 1), max(height // 8, 1))):
                image.load()  # a JPEG; what is left, turn and conversion, does not fail
                return "", image
            upright = _convert(image, str(path))
            return "", upright.crop(box.inside(upright.size)) if box else upright
    except Exception as error:  # on a broken file Pillow's plugins raise a dozen kinds
        return _reason(error), None


def _check_size(image: Image.Image, most: int, how: str = "") -> None:
    """Raise ValueError for an opened image of no pixel, or of too many."""
    width, height = image.size
    if not width * height:
        raise ValueError(f"it has {width} x {height} pixels")
    if width * height > most:
        raise ValueError(f"its {width} x {height} pixels exceed the limit of {most} pixels{how}")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return f"it is no image in a known format ({', '.join(FORMATS)})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _convert(image: Image.Image, name: str) -> Image.Image:
    """8-bit RGB from any mode, turned upright."""
    image.load()
    turn = _TURNS.get(_orientation(image))
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_stretch(np.asarray(image), name))
    elif image.mode == "P":
        image = image.convert("RGBA")  # a palette may hold colours with transparency
    upright = image if turn is None else image.transpose(turn)
    # `convert` copies; a file's image must not be returned itself, as it is closed
    return upright.convert("RGB")


def _is_cut(image: Image.Image) -> bool:
    """Whether Pillow drops bits of an opened image: it has no mode for 16-bit colour."""
    if image.format not in ("PNG", "TIFF") or image.mode.startswith("I"):
        return False
    tiles = getattr(image, "tile", None)  # an attribute of images that were opened from files
    if not tiles:
        return False
    arguments = tiles[0].args
    return ";16" in str(arguments if isinstance(arguments, str) else arguments[0])


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged EXIF block does not hurt the pixels
        return None


def _stretch(values: np.ndarray, name: str) -> np.ndarray:
    """Gray values of more than 8 bits, integers or floats, as uint8 over the whole 0..255.

    A thermal sensor fills a narrow part of its range: dividing by 256 would leave black. Of n
    finite pixels the n/500 lowest become 0 and the n/500 highest 255 (at least one of each from 20
    pixels on), so that a dead or hot pixel does not take the range; what lies between is linear.
    Where these limits are equal, the lowest and the highest pixel are taken. A constant image is 0.
    NaN becomes 0, an infinite pixel the limit of its sign.

    Raises:
        ValueError: no pixel is finite.
    """
    finite = values.ravel()
    if values.dtype.kind == "f" and not (mask := np.isfinite(finite)).all():
        finite = finite[mask]
        if not finite.size:
            raise ValueError("all of its pixels are NaN or infinite")
        _warn(name, f"{values.size - finite.size} of {values.size} pixels are NaN or infinite")
    cut = min(max(finite.size // 500, 1), finite.size // 20)
    ordered = np.partition(finite, (cut, finite.size - 1 - cut)) if cut else finite
    low, high = float(ordered[cut]), float(ordered[-1 - cut])
    if low >= high or not cut:
        low, high = float(finite.min()), float(finite.max())
    scaled = values.astype(np.float64)
    if finite.size < values.size:
        scaled[np.isnan(scaled)] = low
    np.clip(scaled, low, high, out=scaled)
    scaled -= low
    scaled *= 255 / (high - low or 1.0)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _warn(name: str, what: str) -> None:
    """Log a warning, once for each file."""
    if name not in _warned:
        _warned.add(name)
        logger.warning("image %s: %s", name, what)
