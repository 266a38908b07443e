"""The file of a gallery's index: building it, and keeping up with what is added and removed."""

import os
import shutil
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from icre.gallery import index as indexes
from icre.gallery.arrays import HashedFile, require_unchanged, write_array
from icre.gallery.manifest import VERSION
from icre.gallery.segments import StoredFeatures, open_segment
from icre.gallery.store import Gallery, index_paths, open_index

# Images behind the index are compared one by one; beyond so many, and this share of those in the
# index, it is built anew.
TAIL_ROWS, TAIL_SHARE = 20_000, 1 / 4
DEAD_SHARE = 1 / 2  # removed vectors in a graph: beyond, it is built anew


def build_index(folder: Path, manifest: dict[str, Any], progress: bool) -> dict[str, Any] | None:
    """Build the index of all segments of a manifest; returns its entry."""
    kind, dimensions = manifest["index"], manifest["dimensions"]
    indexes.require_enough(kind, manifest["images"])
    if kind == "flat":
        return None
    segments = [open_segment(folder, entry, dimensions) for entry in manifest["segments"]]
    index = indexes.build(kind, StoredFeatures(segments, dimensions), progress)
    name = f"{manifest[VERSION]}-1"
    return {
        "name": name,
        "vectors": manifest["images"],
        "rows": manifest["images"],
        "file": save_index(folder, name, kind, index),
        "slots": None,
    }


def with_fitting_index(
    folder: Path, manifest: dict[str, Any], version: int, progress: bool
) -> tuple[dict[str, Any], bool]:
    """The manifest with an index that is built anew if it has to be, and whether it was."""
    entry, kind = manifest["index_file"], manifest["index"]
    total = sum(segment["images"] for segment in manifest["segments"])
    manifest = manifest | {"images": total, VERSION: version}
    if kind == "flat":
        return manifest, False
    rows = entry["rows"] if entry else 0
    tail = total - rows > max(TAIL_ROWS, TAIL_SHARE * rows)
    dead = entry is not None and entry["vectors"] - rows > DEAD_SHARE * entry["vectors"]
    if not (tail or dead) or total < indexes.find(kind).minimum:
        return manifest, False
    return manifest | {"index_file": build_index(folder, manifest, progress)}, True


def index_without(gallery: Gallery, mask: np.ndarray, version: int) -> dict[str, Any] | None:
    """Entry of the index after a removal of rows (N,); None: exact search."""
    stored, entry = gallery.stored, gallery.manifest["index_file"]
    if stored is None or not mask[: stored.rows].any():
        return entry
    rows = np.arange(entry["vectors"]) if stored.slots is None else np.array(stored.slots)
    gone = (rows >= 0) & mask[rows]
    slots = np.where((rows >= 0) & ~gone, rows - np.cumsum(mask)[rows], -1)
    if not (slots >= 0).any():
        return None
    kind, folder, name = gallery.manifest["index"], gallery.folder, f"{version}-0"
    (old, old_rows), (new, new_rows) = (index_paths(folder, one) for one in (entry["name"], name))
    if stored.slots is not None:
        require_unchanged(folder, old_rows, entry["slots"]["sha256"])
    if kind == "hnsw":
        _link(old, new)
        file = entry["file"]
    else:
        require_unchanged(folder, old, entry["file"]["sha256"])
        own = open_index(folder, gallery.manifest, gallery.segments, mapped=False)
        indexes.remove(kind, own.index, np.flatnonzero(gone))
        file = save_index(folder, name, kind, own.index)
    return entry | {
        "name": name,
        "rows": int((slots >= 0).sum()),
        "file": file,
        "slots": write_array(new_rows, slots.astype(np.int64)),
    }


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def save_index(folder: Path, name: str, kind: str, index: faiss.Index) -> dict[str, Any]:
    """Write an index of a gallery; returns its file's size and checksum."""
    path, _ = index_paths(folder, name)
    path.parent.mkdir(exist_ok=True)
    with HashedFile(path) as file:
        indexes.save(kind, index, file.write)
    return file.info
