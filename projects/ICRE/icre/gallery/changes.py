"""Changing a gallery: adding and removing images, and storing calibrations."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icre.gallery import journal
from icre.gallery.arrays import require_fitting
from icre.gallery.calibration import Calibration
from icre.gallery.columns import Columns
from icre.gallery.filters import Filter
from icre.gallery.index_files import index_without, with_fitting_index
from icre.gallery.manifest import skipped_entries
from icre.gallery.segments import SEGMENT_ROWS, Part, Segment, cut, require_intact, write_segments
from icre.gallery.shards import remove_shards
from icre.gallery.staging import discard
from icre.gallery.store import Gallery
from icre.gallery.table import ImageTable
from icre.gallery.versions import changing, publish
from icre.utils.errors import UserError
from icre.utils.lock import locked

ADDING = "adding"  # folder in a gallery: features of an addition that is not finished


@dataclass(frozen=True)
class Change:
    """What a change did.

    Args:
        gallery: the new version.
        images: rows that were added or removed.
        rebuilt: whether the index was built anew.
        answers: after a removal, files written earlier that may hold what was removed.
    """

    gallery: Gallery
    images: ImageTable
    rebuilt: bool = False
    answers: tuple[str, ...] = ()


def new_images(gallery: Gallery, images: ImageTable, skip_existing: bool) -> ImageTable:
    """The images that a gallery does not have yet, by path and box.

    Raises:
        UserError: one is there already, unless those are to be left out; or all are.
    """
    there = np.flatnonzero(gallery.images.known(images))
    if not len(there):
        return images
    more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
    first = images.paths[there[0]]
    if not skip_existing:
        raise UserError(
            f"{first}{more} is in gallery {gallery.name} already: leave out what is there with "
            "--skip-existing, or remove it first to replace it"
        )
    return images.take(np.setdiff1d(np.arange(len(images)), there))


def add(
    folder: Path,
    images: ImageTable,
    blocks: Iterable[np.ndarray],
    skipped: Sequence[tuple[str, str]] = (),
    progress: bool = True,
) -> Change:
    """Add images with their features.

    The index keeps its kind: what is added is searched exactly beside it, until it is built anew.

    Args:
        folder: of the gallery.
        images, blocks, skipped, progress: as of `write`; features by the gallery's model.

    Raises:
        UserError: an image is there already, features of another dimension or that are no unit
            vectors, or another process changes the gallery.
    """
    with changing(folder) as gallery:
        new_images(gallery, images, skip_existing=False)
        blocks = _fitting(gallery, images, blocks)
        version, kept = gallery.version + 1, list(gallery.segments)
        parts: Iterable[Part] = cut(images, blocks)
        if len(images) < SEGMENT_ROWS:  # small ones are joined, so that few have to be opened
            features = np.concatenate(list(blocks))
            parts = [_joined(folder, kept, images, features)]
        entries = [one.entry for one in kept] + write_segments(folder, version, parts)
        change = gallery.manifest["calibrated"]
        manifest = gallery.manifest | {
            "segments": entries,
            "calibrated": change | {"added": change["added"] + len(images)},
            "skipped": gallery.manifest["skipped"] + skipped_entries(skipped),
        }
        manifest, rebuilt = with_fitting_index(folder, manifest, version, progress)
        return Change(publish(folder, manifest, version), images, rebuilt)


def _fitting(
    gallery: Gallery, images: ImageTable, blocks: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """The blocks of features of images, each checked before it is passed on."""
    dimensions, start = gallery.manifest["dimensions"], 0
    for block in blocks:
        require_fitting(block, dimensions, images.paths[start:], gallery.name)
        yield block
        start += len(block)


def _joined(
    folder: Path, segments: list[Segment], images: ImageTable, features: np.ndarray
) -> Part:
    """Rows behind those of segments, joined with the last of these while they are no larger.

    Joined segments are taken off the list. Each row is so written anew at most log2(SEGMENT_ROWS)
    times.
    """
    if len(features) != len(images):
        raise ValueError(f"{len(features)} features for {len(images)} images")
    while segments and len(segments[-1]) <= len(images):
        if len(segments[-1]) + len(images) > SEGMENT_ROWS:
            break
        last = segments.pop()
        require_intact(folder, last)
        images = ImageTable.joined([last.columns.table(), images])
        features = np.concatenate([last.features, features])
    return Columns.of(images), [features]


def remove(folder: Path, filter: Filter, reason: str = "") -> Change:
    """Remove the images that meet a filter: features, rows of the table, vectors of the index.

    Raises:
        UserError: none does, or another process changes the gallery.
    """
    with changing(folder) as gallery:
        mask = gallery.passing(filter)
        if not mask.any():
            raise UserError(f"no image of gallery {folder} meets {filter}: nothing is removed")
        images = gallery.images.take(np.flatnonzero(mask))
        discard_addition(folder)  # may hold features of them too, as the staging folder may
        discard(folder)
        version, change = gallery.version + 1, gallery.manifest["calibrated"]
        manifest = gallery.manifest | {
            "segments": _segments_without(gallery, mask, version),
            "calibrated": change | {"removed": change["removed"] + len(images)},
            "index_file": index_without(gallery, mask, version),
            "skipped": [],  # paths and reasons of images that may be of the same people
        }
        manifest, rebuilt = with_fitting_index(folder, manifest, version, progress=True)
        text = "; ".join(part for part in (str(filter), reason) if part)
        rows = [images.row(row) for row in range(len(images))]
        journal.log_removal(folder, version, text, rows)
        answers = tuple(journal.written_answers(folder))
        return Change(publish(folder, manifest, version), images, rebuilt, answers)


def _segments_without(gallery: Gallery, mask: np.ndarray, version: int) -> list[dict[str, Any]]:
    """Entries of the segments after a removal; those that held a removed row are written anew."""
    entries: list[dict[str, Any] | None] = []
    parts: list[tuple[Segment, np.ndarray]] = []
    for start, segment in zip(gallery.images.starts.tolist(), gallery.segments):
        inside = mask[start : start + len(segment)]
        if not inside.any():
            entries.append(segment.entry)
        elif not inside.all():
            require_intact(gallery.folder, segment)
            entries.append(None)
            parts.append((segment, inside))
    rest = (
        (one.columns.take(np.flatnonzero(~inside)), _runs_without(one.features, inside))
        for one, inside in parts
    )
    written = iter(write_segments(gallery.folder, version, rest))
    return [next(written) if entry is None else entry for entry in entries]


def _runs_without(features: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """What stays of (N, D) features without the rows of a mask (N,): views of consecutive rows."""
    ends = [*np.flatnonzero(mask).tolist(), len(mask)]
    starts = [0, *(end + 1 for end in ends)]
    return [features[start:end] for start, end in zip(starts, ends) if start < end]


def discard_addition(folder: Path) -> None:
    """Delete the features that an addition left which was killed; not those of one that runs."""
    below = folder / ADDING
    if not below.is_dir():
        return
    with suppress(UserError), locked(below, "gallery"):
        remove_shards(below)
    with suppress(OSError):
        below.rmdir()


def save_calibrations(gallery: Gallery, calibrations: dict[str, Calibration]) -> None:
    """Store calibrations that were made with an opened gallery; replaces earlier ones.

    If it was changed meanwhile, they count as older by that change.
    """
    with changing(gallery.folder) as current:
        since = {
            name: max(0, current.change[name] - gallery.change[name])
            for name in ("added", "removed")
        }
        stored = {name: one.as_dict() for name, one in calibrations.items()}
        changes = {"images": len(gallery.images), **since}
        manifest = current.manifest | {"calibrations": stored, "calibrated": changes}
        publish(gallery.folder, manifest, current.version)  # the images are the same
