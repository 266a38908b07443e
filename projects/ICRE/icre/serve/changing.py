"""Images that requests add to the gallery or remove from it."""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from icre.gallery.backend import Gallery, StoreUnavailable
from icre.gallery.filters import Filter
from icre.gallery.images import COLUMNS
from icre.gallery.table import NO_TIME, ImageTable
from icre.gallery.times import parse_time
from icre.modality import NAMES
from icre.serve.served import ServedGallery
from icre.utils.errors import UserError
from icre.utils.files import replaced
from icre.utils.image import FORMATS

logger = logging.getLogger("fastreid.icre")

RESERVED = (*COLUMNS, "box")  # what every image has


def described(
    files: Sequence[tuple[bytes, str]],
    folder: Path,
    modality: str,
    camera: str | None,
    identity: str | None,
    time: str | None,
    where: Sequence[str],
) -> ImageTable:
    """A row for each file; each is called by its content, so that the same is the same row.

    Raises:
        UserError: a time that cannot be read, no KEY=VALUE, an attribute with the name of another
            column, or a text that is no UTF-8.
    """
    _require_utf8([camera or "", identity or "", time or "", *where])
    attributes = dict(Filter.parse(where=list(where)).where)
    for name in RESERVED:
        if name in attributes:
            raise UserError(f"--where {name}=: {name} is no attribute; name another")
    paths = [
        str(folder / f"{hashlib.sha256(content).hexdigest()}{FORMATS[form][0]}")
        for content, form in files
    ]
    count = len(paths)
    moment = parse_time(time, "time") if time else NO_TIME
    return ImageTable(
        paths,
        np.full(count, NAMES.index(modality), dtype=np.int64),
        [camera or ""] * count,
        [identity or ""] * count,
        np.full(count, moment, dtype="M8[us]"),
        attributes={name: [value] * count for name, value in attributes.items()},
    )


def _require_utf8(texts: Sequence[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"{text}: no UTF-8 text") from None


def add(
    served: ServedGallery,
    images: ImageTable,
    files: Sequence[tuple[bytes, str]],
    features: np.ndarray,
) -> dict[str, Any]:
    """Write the files and add their rows; those that are there already are left out.

    Args:
        served: the gallery.
        images, files, features: N rows, of `described`; (N, D).

    Raises:
        HTTPException: 409, where another process changes the gallery.
    """
    known = _current(served).images.known(images)
    _, first = np.unique(images.paths, return_index=True)
    rows = [row for row in sorted(first.tolist()) if not known[row]]
    if not rows:
        return {"added": 0, "there_already": len(images), **_state(served)}
    written: list[int] = []
    try:
        for row in rows:
            path = Path(images.paths[row])
            if not path.exists():
                written.append(row)
            with replaced(path) as temporary:
                temporary.write_bytes(files[row][0])
        served.store.add(images.take(rows), [features[rows]], progress=False)
    except BaseException as error:
        _delete_unused(served, images.take(written))
        if isinstance(error, UserError) and not isinstance(error, StoreUnavailable):
            raise HTTPException(409, served.brief(error)) from None
        raise
    served.refresh()
    return {"added": len(rows), "there_already": len(images) - len(rows), **_state(served)}


def remove(
    served: ServedGallery, filter: Filter, reason: str, uploads: Path | None
) -> dict[str, Any]:
    """Remove the images that meet a filter, and those of their files that `add` wrote.

    Raises:
        UserError: a condition that no image can meet.
        HTTPException: 409, where another process changes the gallery.
    """
    if not _current(served).count(filter):
        return {"removed": 0, "files_deleted": 0, "answers": [], **_state(served)}
    try:
        change = served.store.remove(filter, reason)
    except StoreUnavailable:
        raise
    except UserError as error:
        raise HTTPException(409, served.brief(error)) from None
    served.refresh()
    paths = enumerate(change.images.paths)
    rows = [row for row, path in paths if uploads and Path(path).parent == uploads]
    return {
        "removed": len(change.images),
        "files_deleted": _delete_unused(served, change.images.take(rows)),
        "answers": list(change.answers),
        **_state(served),
    }


def _delete_unused(served: ServedGallery, images: ImageTable) -> int:
    """Delete the files of the images that the gallery on the disk does not have; how many.

    Where the gallery cannot be read, all stay: a change may have failed after it took effect.
    """
    if not len(images):
        return 0
    try:
        known = _current(served).images.known(images)
    except (OSError, UserError, HTTPException) as error:
        logger.warning("%d uploaded files stay: the gallery cannot be read: %s", len(images), error)
        return 0
    deleted = 0
    for path in {path for path, there in zip(images.paths, known.tolist()) if not there}:
        with suppress(FileNotFoundError):
            Path(path).unlink()
            deleted += 1
    return deleted


def _current(served: ServedGallery) -> Gallery:
    """The version on the disk; features of the model must not get into a gallery of another."""
    version = served.refresh()
    if served.problem:
        raise HTTPException(409, "the gallery on the disk is not the one that is served")
    return version.gallery


def _state(served: ServedGallery) -> dict[str, int]:
    gallery = served.newest.gallery
    return {"version": gallery.version, "images": len(gallery.images)}
