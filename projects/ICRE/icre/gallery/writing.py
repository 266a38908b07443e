"""Making a gallery: of images and their features, or of other galleries."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from icre.gallery import journal
from icre.gallery.arrays import HashedFile, sync_folder, sync_tree
from icre.gallery.index_files import build_index
from icre.gallery.manifest import CONFIG, FEATURES, FORMAT, VERSION, write_manifest
from icre.gallery.segments import SEGMENT_ROWS, SEGMENTS, Part, Segment, cut, write_segments
from icre.gallery.staging import GALLERY, discard, remove_gallery, staging, staging_folder
from icre.gallery.store import Gallery, ModelInfo
from icre.gallery.table import ImageTable
from icre.utils.errors import UserError


def write(
    folder: Path,
    images: ImageTable,
    blocks: Iterable[np.ndarray],
    model: ModelInfo,
    kind: str,
    skipped: Sequence[tuple[str, str]] = (),
    progress: bool = True,
) -> None:
    """Write a gallery; the folder appears when it is complete.

    Args:
        folder: must not exist.
        images: N rows.
        blocks: their features, in order; unit vectors, together (N, D).
        model: of the features.
        kind: key of `index.KINDS`.
        skipped: (path, reason) of images that were left out on request.
        progress: show a bar.

    Raises:
        UserError: it cannot be written, or there are too few images for this kind of index.
    """
    with staging(folder):
        finish(folder, cut(images, blocks), model, kind, skipped, progress)


def finish(
    folder: Path,
    parts: Iterable[Part],
    model: ModelInfo,
    kind: str,
    skipped: Sequence[tuple[str, str]] = (),
    progress: bool = True,
) -> None:
    """Like `write`, of parts of at most SEGMENT_ROWS rows, inside of `staging(folder)`.

    Discards the staging folder.
    """
    target = staging_folder(folder) / GALLERY
    try:
        remove_gallery(folder)
        target.mkdir(parents=True)
        with HashedFile(target / CONFIG) as config:
            config.write(model.config.encode())
        entries = write_segments(target, 1, parts)
        if not entries:
            raise ValueError("a gallery of no images")
        manifest = {
            "format": FORMAT,
            VERSION: 1,
            "images": sum(entry["images"] for entry in entries),
            "dimensions": _dimensions(target, entries[0]),
            "index": kind,
            "made": journal.now(),
            "changed": journal.now(),
            "model": {"weights": model.weights, "sha256": model.sha256},
            "skipped": [list(one) for one in skipped],
            "calibrations": {},
            "calibrated": {"images": 0, "added": 0, "removed": 0},
            "config": config.info,
            "segments": entries,
            "index_file": None,
        }
        manifest["index_file"] = build_index(target, manifest, progress)
        sync_tree(target)
        write_manifest(target, manifest)
        target.rename(folder)
        sync_folder(folder.absolute().parent)
    except OSError as error:
        raise UserError(
            f"cannot write gallery {folder}: {error}; repeat the command that indexes it, it goes "
            "on where it was stopped"
        ) from error
    discard(folder)


def _dimensions(folder: Path, entry: dict[str, Any]) -> int:
    return np.load(folder / SEGMENTS / entry["name"] / FEATURES, mmap_mode="r").shape[1]


def merge(
    folder: Path, galleries: Sequence[Gallery], skip_existing: bool = False, progress: bool = True
) -> None:
    """Write a gallery of the images of others, of the kind of the first.

    Calibrations are not kept: who is a stranger depends on all images.

    Raises:
        UserError: they have different models, or an image is in two of them.
    """
    first = galleries[0]
    known = first.images.keys()
    parts: list[tuple[Segment, np.ndarray]] = [(one, np.arange(len(one))) for one in first.segments]
    for other in galleries[1:]:
        other.check_model(first.manifest["model"]["sha256"], f"the model of {first.folder}")
        for segment in other.segments:
            keys = segment.columns.table().keys()
            new = np.array([key not in known for key in keys], dtype=bool)
            if not new.all() and not skip_existing:
                path = keys[int(np.argmin(new))][0]
                raise UserError(
                    f"{path} is in gallery {other.folder} and in another before it: give "
                    "--skip-existing to take it from the first"
                )
            known.update(keys)
            parts.append((segment, np.flatnonzero(new)))
    config = (first.folder / CONFIG).read_text()
    model = ModelInfo(**first.manifest["model"], config=config)
    chosen = (
        (one.columns.take(rows[n : n + SEGMENT_ROWS]), [one.features[rows[n : n + SEGMENT_ROWS]]])
        for one, rows in parts
        for n in range(0, len(rows), SEGMENT_ROWS)
    )
    with staging(folder):
        finish(folder, chosen, model, first.manifest["index"], (), progress)
