"""Checksums of rendered images: exact by SHA-256, and up to rounding by mean grey values.

Rendering does the same operations in the same order everywhere, so the same versions give the same
bytes for any number of processes. Another numpy, processor or JPEG library may round a last bit
differently and change single grey values by one. A checksum therefore has two parts: `sha256` of
the files, equal in an equal environment only, and `means`, which rounding moves by less than
TOLERANCE grey values, while another seed, level or renderer moves them by more.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, features

TOLERANCE = 0.05  # grey values 0..255, for a mean over at least a few dozen images


@dataclass(frozen=True)
class Checksum:
    """Checksum of a set of image files.

    Attributes:
        images: number of files.
        sha256: hex digest over paths and contents, in the order of the paths.
        means: four numbers per camera folder, in the order of the folders: mean grey value of the
            upper, middle and lower third, and mean difference of horizontal neighbours.
    """

    images: int
    sha256: str
    means: tuple[float, ...]

    def agrees(self, other: "Checksum") -> bool:
        """Whether both are checksums of the same pictures, up to rounding."""
        return (
            self.images == other.images
            and len(self.means) == len(other.means)
            and bool(np.allclose(self.means, other.means, rtol=0, atol=TOLERANCE))
        )


def checksum(files: Iterable[tuple[str, bytes]]) -> Checksum:
    """Checksum of (path below the root, content) pairs, which must be sorted by path."""
    digest, count = hashlib.sha256(), 0
    cameras: dict[str, list[list[float]]] = {}
    for path, content in files:
        digest.update(path.encode() + b"\0" + content)
        cameras.setdefault(path.split("/")[0], []).append(_grey_means(content))
        count += 1
    means = [np.mean(rows, axis=0) for _, rows in sorted(cameras.items())]
    return Checksum(count, digest.hexdigest(), tuple(np.round(np.concatenate(means), 3).tolist()))


def checksum_of_tree(root: Path) -> Checksum:
    """Checksum of all JPEG files in the camera folders of a tree in SYSU-MM01's layout."""
    paths = sorted(path.relative_to(root).as_posix() for path in root.glob("cam*/*/*.jpg"))
    return checksum((path, (root / path).read_bytes()) for path in paths)


def environment() -> str:
    """The versions that `sha256` depends on, in one line."""
    return f"numpy {np.__version__}, libjpeg {features.version('jpg')}"


def _grey_means(content: bytes) -> list[float]:
    grey = np.asarray(Image.open(BytesIO(content)).convert("L"), np.float64)
    thirds = [float(part.mean()) for part in np.array_split(grey, 3)]
    return [*thirds, float(np.abs(np.diff(grey, axis=1)).mean())]
