"""The folder of a gallery, as a `Store`."""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from icre.gallery import changes, journal
from icre.gallery.calibration import Calibration
from icre.gallery.changes import Change
from icre.gallery.filters import Filter
from icre.gallery.manifest import status
from icre.gallery.store import Gallery, open_gallery
from icre.gallery.table import ImageTable
from icre.gallery.verify import verify
from icre.gallery.versions import leftovers
from icre.utils.errors import printable


class FolderStore:
    """A folder; see `icre.gallery.backend.Store` for the methods.

    Args:
        folder: of the gallery.
    """

    is_remote = False

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.name = str(folder)

    @property
    def title(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    def open(self) -> Gallery:
        """The newest version."""
        return open_gallery(self.folder)

    def status(self) -> Hashable:
        """Of the manifest, by one `stat`."""
        return status(self.folder)

    def add(
        self, images: ImageTable, blocks: Iterable[np.ndarray], progress: bool = True
    ) -> Change:
        """See `changes.add`."""
        return changes.add(self.folder, images, blocks, progress=progress)

    def remove(self, filter: Filter, reason: str = "") -> Change:
        """See `changes.remove`."""
        return changes.remove(self.folder, filter, reason)

    def save_calibrations(self, gallery: Gallery, calibrations: dict[str, Calibration]) -> None:
        """See `changes.save_calibrations`."""
        changes.save_calibrations(gallery, calibrations)

    def removals(self, version: int) -> list[dict[str, Any]]:
        """See `journal.removals`."""
        return journal.removals(self.folder, version)

    def remember_answers(self, version: int, *paths: str | Path | None) -> None:
        """See `journal.remember_answers`."""
        journal.remember_answers(self.folder, version, *paths)

    def verify(self) -> list[str]:
        """See `icre.gallery.verify.verify`."""
        gallery = self.open()
        files, left = verify(gallery)
        lines = [f"{self.name}: {len(gallery.images)} images, {files} files, all as written"]
        if left:
            lines.append(
                f"note: {len(left)} files are of a writer that was killed, or still runs, such as "
                f"{printable(left[0].name)}; the next change deletes them"
            )
        return lines

    def leftovers(self) -> str:
        """Files that the next change deletes."""
        left = leftovers(self.open())
        return f"{len(left)} files of a writer that was killed, or still runs" if left else ""
