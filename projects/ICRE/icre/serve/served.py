"""The gallery that is served: its newest version that fits the model."""

import logging
import threading
from collections.abc import Hashable
from functools import cached_property, lru_cache
from time import monotonic
from typing import Any

import torch

from icre.gallery.backend import Gallery, Store, StoreUnavailable
from icre.gallery.manifest import CONFIG
from icre.gallery.page import thumbnail
from icre.serve.metrics import Metrics
from icre.utils.choice import natural
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")

LISTED = 200  # cameras in the summary
THUMBNAILS = 512  # pictures that are kept, some 10 KB each
LOOK_EVERY = 1.0  # seconds between two looks at a store whose status costs a request


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
        cameras = sorted(images.names("camera"), key=natural)
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

    def _picture(self, row: str) -> bytes | None:
        """The image of a row as a small JPEG file; None if it cannot be read.

        Raises:
            LookupError: there is no such row.
        """
        image = self.gallery.images.find(row)
        return thumbnail(image["path"], image.get("box"))


class ServedGallery:
    """Takes up new versions of a gallery; those of another model are refused.

    Args:
        store: the gallery's place.
        gallery: the first version, of the model that is loaded.
        seen: the store's status before that was opened.
        metrics: get the version.
        device: that searches it, where faiss can.

    Attributes:
        problem: why the newest version is not served, else "".
    """

    def __init__(
        self, store: Store, gallery: Gallery, seen: Hashable, metrics: Metrics, device: torch.device
    ):
        self.store, self.name, self.problem = store, store.title, ""
        self._seen, self._looked = seen, 0.0
        self._metrics, self._device = metrics, device
        self._lock = threading.Lock()
        self._model = _model_of(gallery)
        self._take(gallery, seen)

    def brief(self, error: Exception) -> str:
        """The text of an error, with the gallery's name where it has its place."""
        return str(error).replace(self.store.name, self.name)

    def is_current(self) -> bool:
        """Whether `newest` has been looked at; at most one `stat`."""
        if self.store.is_remote:
            return not self.problem and monotonic() - self._looked < LOOK_EVERY
        return self.store.status() == self._seen

    def refresh(self) -> Version:
        """The newest version if it can be served, else the one before.

        Raises:
            StoreUnavailable: a store does not answer, or holds something else now.
        """
        with self._lock:
            version = self._refresh()
        if self.problem and self.store.is_remote:  # nothing of the one before is left
            raise StoreUnavailable(self.problem)
        return version

    def _refresh(self) -> Version:
        found = self.store.status()
        self._looked = monotonic()
        if found == self._seen:
            return self.newest
        try:
            gallery = self.store.open()
            if _model_of(gallery) != self._model:
                raise UserError(
                    f"gallery {self.store.name} has another model, or another config of it, "
                    "than the service was started with: start it again"
                )
        except StoreUnavailable:
            raise
        except (UserError, OSError) as error:
            self.problem, self._seen = str(error), found
            self._metrics.refused_reloads.inc()
            logger.error("version %d is still served: %s", self.newest.gallery.version, error)
        else:
            self.problem = ""
            self._take(gallery.on(self._device), found)
            logger.warning("version %d of the gallery is served", gallery.version)
        return self.newest

    def _take(self, gallery: Gallery, seen: Hashable) -> None:
        self.newest, self._seen, self._looked = Version(gallery), seen, monotonic()
        self._metrics.gallery_images.set(len(gallery.images))
        self._metrics.gallery_version.set(gallery.version)


def _model_of(gallery: Gallery) -> tuple[str, str, int]:
    """Checkpoint, config and dimensions: what features have to have in common."""
    manifest = gallery.manifest
    config = manifest["files"][CONFIG] if manifest["format"] == 1 else manifest["config"]["sha256"]
    return manifest["model"]["sha256"], config, manifest["dimensions"]
