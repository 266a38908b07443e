"""Making a gallery: of images and their features, or of other galleries."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from icre.gallery import journal
from icre.gallery.arrays import HashedFile, sync_folder, sync_tree
from icre.gallery.index_files import build_index
from icre.gallery.manifest import CONFIG, FEATURES, FORMAT, VERSION, skipped_entries, write_manifest
from icre.gallery.segments import (
    SEGMENT_ROWS,
    SEGMENTS,
    Part,
    Segment,
    cut,
    require_intact,
    write_segments,
)
from icre.gallery.staging import GALLERY, discard, remove_gallery, staging, staging_folder
from icre.gallery.store import Gallery, ModelInfo
from icre.gallery.table import ImageTable
from icre.utils.errors import UserError
from icre.utils.yaml import leaves, parse_yaml, require_mapping


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
            "skipped": skipped_entries(skipped),
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
        UserError: they have different models, an image is in two of them, or they have none.
    """
    first = galleries[0]
    if not any(len(one.images) for one in galleries):
        raise UserError(f"gallery {first.folder} and the others to merge have no images")
    known = first.images.keys()
    for segment in first.segments:
        require_intact(first.folder, segment)
    parts: list[tuple[Segment, np.ndarray]] = [(one, np.arange(len(one))) for one in first.segments]
    for other in galleries[1:]:
        other.check_model(first.manifest["model"]["sha256"], f"the model of {first.folder}")
        _require_same_features(first, other)
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
            require_intact(other.folder, segment)
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


def _require_same_features(first: Gallery, other: Gallery) -> None:
    """Raise UserError where the features of two galleries of one checkpoint cannot be compared."""
    one, two = _settings(first), _settings(other)
    # a key that only one has is of another version of this program
    different = sorted(key for key in one.keys() & two.keys() if one[key] != two[key])
    if different:
        key = different[0]
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        raise UserError(
            f"the features of galleries {first.folder} and {other.folder} cannot be compared: "
            f"{key} is {one[key]} and {two[key]}{more}; index one of them again"
        )


def _settings(gallery: Gallery) -> dict[str, Any]:
    """What the features of an image depend on besides the checkpoint: key -> value."""
    where = f"{gallery.folder}/{CONFIG}"
    config = require_mapping(parse_yaml(gallery.config, where), where, "index again")
    chosen = {
        key: value
        for key, value in leaves(config)
        if key.startswith(("MODEL.", "INPUT.", "TEST.FLIP."))
        and key not in ("MODEL.DEVICE", "MODEL.WEIGHTS")  # the checkpoint is compared itself
    }
    return {"dimensions": gallery.manifest["dimensions"], **chosen}
