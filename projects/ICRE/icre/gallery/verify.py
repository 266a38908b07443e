"""Reading all of a gallery: every checksum, and every content that can be wrong."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from icre.gallery.arrays import damage, no_unit_vector, require_unchanged
from icre.gallery.manifest import CONFIG, FORMAT
from icre.gallery.segments import SEGMENTS
from icre.gallery.store import INDEX_FOLDER, Gallery, index_paths
from icre.gallery.versions import leftovers


def verify(gallery: Gallery) -> tuple[int, list[Path]]:
    """Compare every file with its checksum, and check what it holds.

    Returns:
        Number of files that were read, and `leftovers`, which the next change deletes.

    Raises:
        UserError: names the first file that is damaged, or that a change deleted meanwhile.
    """
    files = list(_files(gallery))
    for path, expected in files:
        require_unchanged(gallery.folder, path, expected)
    for segment in gallery.segments:
        below = gallery.folder / SEGMENTS / segment.entry["name"]
        try:
            segment.columns.check()
            row = no_unit_vector(segment.features)
            if row is not None:
                raise ValueError(f"row {row} is no unit vector")
        except ValueError as error:
            raise damage(gallery.folder, below, str(error)) from None
    slots = gallery.stored.slots if gallery.stored else None
    if slots is not None:
        live = np.sort(slots[slots >= 0])
        if not np.array_equal(live, np.arange(gallery.stored.rows)):
            raise damage(gallery.folder, gallery.folder / INDEX_FOLDER, "two vectors have one row")
    if len(gallery.images.keys()) < len(gallery.images):
        raise damage(gallery.folder, gallery.folder / SEGMENTS, "an image is there twice")
    return len(files), leftovers(gallery)


def _files(gallery: Gallery) -> Iterator[tuple[Path, str]]:
    """(path, SHA-256) of each file that the manifest names."""
    folder, manifest = gallery.folder, gallery.manifest
    if manifest["format"] != FORMAT:
        yield from ((folder / name, value) for name, value in manifest["files"].items())
        return
    yield folder / CONFIG, manifest["config"]["sha256"]
    for segment in manifest["segments"]:
        for name, info in segment["files"].items():
            yield folder / SEGMENTS / segment["name"] / name, info["sha256"]
    entry = manifest["index_file"]
    if entry:
        path, rows = index_paths(folder, entry["name"])
        yield path, entry["file"]["sha256"]
        if entry["slots"]:
            yield rows, entry["slots"]["sha256"]
