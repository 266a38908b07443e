"""What a rendered tree is compared by: the bytes of its files, and robust means of its pixels.

Rendering uses the same numbers in the same order everywhere, so equal versions give equal bytes
for any number of workers. Another numpy, processor or JPEG library may round the last bit of a
sine or a cosine differently and change single grey values by one. Therefore a checksum has two
parts: `sha256` of the files, equal only in an equal environment, and `means`, which no rounding
moves by more than TOLERANCE grey values, while another seed, level or renderer does.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, features

TOLERANCE = 0.05  # grey values 0..255, of a mean over at least a few dozen images


@dataclass(frozen=True)
class Checksum:
    """Of `images` files: `sha256` over their paths and bytes in the order of the paths, and
    `means`, for each camera folder in order: the mean grey value of the upper, middle and lower
    third, and of the difference between neighbours in a row."""

    images: int
    sha256: str
    means: tuple[float, ...]

    def agrees(self, other: "Checksum") -> bool:
        """Whether both are of the same pictures, up to rounding."""
        return (
            self.images == other.images
            and len(self.means) == len(other.means)
            and bool(np.allclose(self.means, other.means, rtol=0, atol=TOLERANCE))
        )


def checksum(files: Iterable[tuple[str, bytes]]) -> Checksum:
    """The checksum of (path below the root, content) pairs, which must come in order of paths."""
    digest, count = hashlib.sha256(), 0
    cameras: dict[str, list[list[float]]] = {}
    for path, content in files:
        digest.update(path.encode() + b"\0" + content)
        cameras.setdefault(path.split("/")[0], []).append(_measure(content))
        count += 1
    means = [np.mean(rows, axis=0) for _, rows in sorted(cameras.items())]
    return Checksum(count, digest.hexdigest(), tuple(np.round(np.concatenate(means), 3).tolist()))


def checksum_of_tree(root: Path) -> Checksum:
    """The checksum of all JPEG files in the camera folders of a tree in SYSU-MM01's layout."""
    paths = sorted(path.relative_to(root).as_posix() for path in root.glob("cam*/*/*.jpg"))
    return checksum((path, (root / path).read_bytes()) for path in paths)


def environment() -> str:
    """The versions that `sha256` depends on, in one line."""
    return f"numpy {np.__version__}, libjpeg {features.version('jpg')}"


def _measure(content: bytes) -> list[float]:
    grey = np.asarray(Image.open(BytesIO(content)).convert("L"), np.float64)
    thirds = [float(part.mean()) for part in np.array_split(grey, 3)]
    return [*thirds, float(np.abs(np.diff(grey, axis=1)).mean())]
