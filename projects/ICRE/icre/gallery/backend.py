"""What a gallery offers, wherever it is kept: in a folder (`icre.gallery.folder`) or in Milvus.

`Store` is the place and what changes it, `Gallery` a version that was opened for searching. The
tests of this contract, `tests/test_backends.py`, run on both.
"""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from icre.gallery.calibration import Calibration
from icre.gallery.changes import Change
from icre.gallery.filters import Filter
from icre.gallery.table import Images, ImageTable
from icre.utils.errors import UserError


class StoreUnavailable(UserError):
    """A store does not answer. What it has acknowledged is there; repeat what was asked for."""


class Gallery(Protocol):
    """A version of a gallery, opened for searching.

    Attributes:
        name: where it is, for messages.
        manifest: at least model {weights, sha256}, index, dimensions, made, changed.
        config: of the model, YAML.
        calibrations: name of the queries' modality -> Calibration.
        change: {images, added, removed} since the calibration.
        has_keys: whether its rows mean the same in other versions.
        beside: images that are compared one by one beside the index.
    """

    name: str
    manifest: dict[str, Any]
    calibrations: dict[str, Calibration]
    modalities: np.ndarray
    change: dict[str, int]
    config: str
    version: int
    has_keys: bool
    beside: int

    @property
    def images(self) -> Images:
        """The table."""

    @property
    def features(self) -> Any:
        """Indexed by rows (n,): their (n, D) unit vectors."""

    def nearest(
        self, queries: np.ndarray, top: int, filter: Filter | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best matches among the images that meet a filter.

        Args:
            queries: (Q, D) unit vectors.
            top: results per query.
            filter: None: all images.

        Returns:
            rows (Q, K) and cosine similarities (Q, K), best first, K at most `top`. Where an
            approximate index found fewer, the similarity is -inf and the row means nothing.

        Raises:
            UserError: a condition that no image can meet, or a damaged row.
            StoreUnavailable: the store does not answer.
        """

    def count(self, filter: Filter) -> int:
        """Images that meet a filter; errors as of `nearest`."""

    def check_model(self, sha256: str, weights: str) -> None:
        """Raise UserError unless this is the SHA-256 of the checkpoint that the features are of."""

    def on(self, device: Any) -> "Gallery":
        """The same gallery, searched on that device where it can be."""


class Store(Protocol):
    """The place of one gallery.

    Attributes:
        name: of the place, for messages.
        is_remote: whether each look costs a request, and a gallery that was opened reads what the
            place holds now; False: it is a file's status, and what was opened stays as it was.
    """

    name: str
    is_remote: bool

    @property
    def title(self) -> str:
        """Short, for people."""

    def open(self) -> Gallery:
        """The newest version.

        Raises:
            UserError: there is none, or it is unfinished, damaged or of another format.
            StoreUnavailable: the store does not answer.
        """

    def status(self) -> Hashable:
        """Differs once the gallery was changed; None: there is no gallery."""

    def add(
        self, images: ImageTable, blocks: Iterable[np.ndarray], progress: bool = True
    ) -> Change:
        """Add N images with their features, in blocks of together (N, D); all or none.

        Raises:
            UserError: an image is there already, or another process changes the gallery.
        """

    def remove(self, filter: Filter, reason: str = "") -> Change:
        """Remove the images that meet a filter: rows and features.

        Raises:
            UserError: none does, or another process changes the gallery.
        """

    def save_calibrations(self, gallery: Gallery, calibrations: dict[str, Calibration]) -> None:
        """Store calibrations that were made with an opened gallery; replaces earlier ones."""

    def removals(self, version: int) -> list[dict[str, Any]]:
        """The log of removals up to a version: date, version, reason, rows."""

    def remember_answers(self, version: int, *paths: str | Path | None) -> None:
        """Note the files into which answers were written, which a removal then names."""

    def verify(self) -> list[str]:
        """Read everything; returns lines on what was read.

        Raises:
            UserError: names what is damaged.
        """

    def leftovers(self) -> str:
        """A note on what a killed writer left; "" if nothing."""
