"""Versions of a gallery: every change is published by replacing its manifest.

A writer holds the gallery's lock, writes new files beside those of the old version, replaces
`gallery.json`, and deletes what the new version does not name. Killed at any step it leaves the old
version or the new one, and files that no version names; the next writer deletes these first.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from icre.gallery import journal
from icre.gallery.arrays import require_unchanged, sync_folder, sync_tree
from icre.gallery.index_files import save_index
from icre.gallery.manifest import (
    CONFIG,
    FEATURES,
    FORMAT,
    IMAGES,
    INDEX,
    MANIFEST,
    VERSION,
    read_manifest,
    write_manifest,
)
from icre.gallery.segments import SEGMENT_ROWS, SEGMENTS, write_segments
from icre.gallery.store import INDEX_FOLDER, Gallery, index_paths, open_gallery
from icre.utils.errors import UserError, printable
from icre.utils.lock import locked

logger = logging.getLogger("fastreid.icre")


@contextmanager
def changing(folder: Path) -> Iterator[Gallery]:
    """Hold a gallery's lock; yields its newest version, with nothing left of killed writers.

    A gallery of format 1 is written anew first.

    Raises:
        UserError: another process changes it, it is damaged, or it cannot be written.
    """
    read_manifest(folder)  # a folder that is none is not made by locking it
    with locked(folder, "gallery"):
        gallery = open_gallery(folder)
        try:
            clean(gallery)
            if gallery.manifest["format"] == 1:
                gallery = _upgrade(gallery)
            yield gallery
        except OSError as error:
            raise UserError(
                f"cannot change gallery {folder}: {error}; it stays as it was, repeat the command"
            ) from error


def publish(folder: Path, manifest: dict[str, Any], version: int) -> Gallery:
    """Make a manifest's files the gallery; the old ones are deleted, where that is possible."""
    sync_folder(folder / SEGMENTS)  # what is below was waited for when it was written
    if (folder / INDEX_FOLDER).is_dir():
        sync_tree(folder / INDEX_FOLDER)
    write_manifest(folder, manifest | {VERSION: version, "changed": journal.now()})
    gallery = open_gallery(folder)
    _delete_leftovers(gallery)
    return gallery


def leftovers(gallery: Gallery) -> list[Path]:
    """Files and folders of other versions: of a process that was killed, or still writes."""
    folder, manifest = gallery.folder, gallery.manifest
    segments = {entry["name"] for entry in manifest.get("segments", [])}
    entry = manifest.get("index_file")
    index: set[str] = set()
    if entry:
        vectors, rows = index_paths(folder, entry["name"])
        index = {vectors.name, rows.name} if entry["slots"] else {vectors.name}
    found = [
        path
        for name, known in ((SEGMENTS, segments), (INDEX_FOLDER, index))
        if (folder / name).is_dir()
        for path in (folder / name).iterdir()
        if path.name not in known
    ]
    hidden = [path for name in (MANIFEST, journal.REMOVED) for path in folder.glob(f".{name}.*")]
    old = () if manifest["format"] == 1 else (IMAGES, FEATURES, INDEX)
    return found + hidden + [folder / name for name in old if (folder / name).exists()]


def clean(gallery: Gallery) -> None:
    """Delete `leftovers`, and what is logged of a removal that did not come; by a writer only."""
    _delete_leftovers(gallery)
    journal.drop_after(gallery.folder, gallery.version)


def _delete_leftovers(gallery: Gallery) -> None:
    """Delete `leftovers`; what cannot be deleted, such as open files on NFS, is told and stays."""
    failed: OSError | None = None
    try:
        for path in leftovers(gallery):
            try:
                _delete(path)
            except OSError as error:
                failed = failed or error
    except OSError as error:
        failed = error
    if failed:
        logger.warning(
            "gallery %s: files that are not of version %d cannot all be deleted (%s); the next "
            "change tries it again",
            gallery.folder,
            gallery.version,
            printable(str(failed)),
        )


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _upgrade(gallery: Gallery) -> Gallery:
    """Write a gallery of format 1 in this format."""
    folder, (segment,) = gallery.folder, gallery.segments
    for name, sha256 in gallery.manifest["files"].items():
        require_unchanged(folder, folder / name, sha256)
    rows = np.arange(len(segment))
    parts = (
        (segment.columns.take(rows[n : n + SEGMENT_ROWS]), [segment.features[n : n + SEGMENT_ROWS]])
        for n in range(0, len(rows), SEGMENT_ROWS)
    )
    entries, kind = write_segments(folder, 1, parts), gallery.manifest["index"]
    index = None
    if gallery.stored:
        index = {
            "name": "1-1",
            "vectors": len(rows),
            "rows": len(rows),
            "file": save_index(folder, "1-1", kind, gallery.stored.index),
            "slots": None,
        }
    config = folder / CONFIG
    first = {key: value for key, value in gallery.manifest.items() if key != "files"}
    manifest = first | {
        "format": FORMAT,
        "calibrated": gallery.change,
        "config": {"bytes": config.stat().st_size, "sha256": gallery.manifest["files"][CONFIG]},
        "segments": entries,
        "index_file": index,
    }
    return publish(folder, manifest, 1)
