"""The gallery that is served: its newest version that fits the model."""

import logging
import threading
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch

from icre.gallery.manifest import CONFIG, Status, status
from icre.gallery.page import thumbnail
from icre.gallery.store import Gallery, open_gallery
from icre.serve.metrics import Metrics
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")

LISTED = 200  # cameras in the summary
THUMBNAILS = 512  # pictures that are kept, some 10 KB each


class Version:
    """One version of a gallery, with what is computed of it once.

    Args:
        gallery: opened.
    """

    def __init__(self, gallery: Gallery):
        self.gallery = gallery
        self.picture = lru_cache(THUMBNAILS)(self._picture)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What a filter can name."""
        images = self.gallery.images
        cameras = sorted(
            images.names("camera"), key=lambda name: name.zfill(9) if name.isdecimal() else name
        )
        return {
            "images": len(images),
            "people": len(images.names("identity")),
            "cameras": cameras[:LISTED],
            "more_cameras": max(0, len(cameras) - LISTED),
            "attributes": images.attributes,
            "times": images.time_span,
            "calibrated": sorted(self.gallery.calibrations),
            "changed_since_calibration": self.gallery.change,
        }

    def _picture(self, row: int) -> bytes | None:
        """The image of a row as a small JPEG file; None if it cannot be read.

        Raises:
            IndexError: there is no such row.
        """
        image = self.gallery.images.row(row)
        return thumbnail(image["path"], image.get("box"))


class ServedGallery:
    """Takes up new versions of a gallery; those of another model are refused.

    Args:
        gallery: the first version, of the model that is loaded.
        metrics: get the version.
        device: that searches it, where faiss can.

    Attributes:
        problem: why the version on the disk is not served, else "".
    """

    def __init__(self, gallery: Gallery, metrics: Metrics, device: torch.device):
        self.folder: Path = gallery.folder
        self.problem = ""
        self._metrics, self._device = metrics, device
        self._lock = threading.Lock()
        self._seen: Status | None = None  # of the version that was looked at last
        self._model = _model_of(gallery)
        self._take(gallery)

    @property
    def name(self) -> str:
        """Of the gallery's folder."""
        return self.folder.resolve().name

    def brief(self, error: Exception) -> str:
        """The text of an error, with the gallery's name where it has its path."""
        return str(error).replace(str(self.folder), self.name)

    def is_current(self) -> bool:
        """Whether `newest` has been looked at; one `stat`."""
        return status(self.folder) == self._seen

    def refresh(self) -> Version:
        """The version on the disk if it can be served, else the one before."""
        with self._lock:
            found = status(self.folder)
            if found == self._seen:
                return self.newest
            try:
                gallery = open_gallery(self.folder)
                if _model_of(gallery) != self._model:
                    raise UserError(
                        f"gallery {self.folder} has another model, or another config of it, than "
                        "the service was started with: start it again"
                    )
            except (UserError, OSError) as error:
                self.problem, self._seen = str(error), found
                self._metrics.refused_reloads.inc()
                logger.error("version %d is still served: %s", self.newest.gallery.version, error)
            else:
                self.problem = ""
                self._take(gallery.on(self._device))
                logger.warning("version %d of the gallery is served", gallery.version)
            return self.newest

    def _take(self, gallery: Gallery) -> None:
        self.newest, self._seen = Version(gallery), gallery.opened
        self._metrics.gallery_images.set(len(gallery.images))
        self._metrics.gallery_version.set(gallery.version)


def _model_of(gallery: Gallery) -> tuple[str, str, int]:
    """Checkpoint, config and dimensions: what features have to have in common."""
    manifest = gallery.manifest
    config = manifest["files"][CONFIG] if manifest["format"] == 1 else manifest["config"]["sha256"]
    return manifest["model"]["sha256"], config, manifest["dimensions"]
