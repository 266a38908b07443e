"""Galleries with the model of their features: building, opening, extending and calibrating them."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

import icre.compat  # noqa: F401

from icre.datasets import load_dataset
from icre.gallery import changes, shards, staging, writing
from icre.gallery.backend import Gallery, Store
from icre.gallery.calibration import Calibration, calibrate
from icre.gallery.images import collect
from icre.gallery.index import require_enough
from icre.gallery.segments import cut
from icre.gallery.store import Gallery as FolderGallery
from icre.gallery.store import ModelInfo
from icre.gallery.table import ImageTable
from icre.inference.extractor import FeatureExtractor, read_config
from icre.utils.errors import UserError
from icre.utils.files import sha256_of
from icre.utils.image import find_faults, verify_images
from icre.utils.lock import locked

Skipped = list[tuple[str, str]]  # (path, reason) of images that were left out


def check_request(folder: Path, images: ImageTable, kind: str, shard_size: int) -> None:
    """Find what would stop a `GalleryBuilder`, before the model is opened.

    Raises:
        UserError: the folder exists, something else is in the place of its staging folder, or the
            images are too few for this kind of index.
    """
    staging.check_absent(folder)
    staging.check_staging(folder)
    check_shard_size(shard_size)
    require_enough(kind, len(images))


def check_shard_size(size: int) -> None:
    """Raise UserError for a shard of no image."""
    if size < 1:
        raise UserError(f"--shard {size}: at least 1 image")


class StagedFeatures:
    """Computes the features of images shard by shard; finished shards are used again.

    Args:
        folder: of the shards.
        images: N rows.
        extractor: computes their features.
        shard_size: images per shard.
    """

    kind: type[shards.Shard] = shards.Shard

    def __init__(
        self, folder: Path, images: ImageTable, extractor: FeatureExtractor, shard_size: int
    ):
        self.images, self.extractor = images, extractor
        self.shards = shards.plan(folder, images, extractor.fingerprint, shard_size, self.kind)
        self.pending = [shard for shard in self.shards if shard.load() is None]

    def compute(self, skip_corrupt: bool) -> tuple[ImageTable, Skipped]:
        """Compute the pending shards.

        Returns:
            The images that have features, and those that were left out.

        Raises:
            UserError: an image cannot be read, unless those are skipped.
        """
        self._fill(skip_corrupt)
        faults, sources = self.faults, self.images.sources()
        if faults and not skip_corrupt:
            raise UserError(
                f"{len(faults)} images were skipped before, the first is "
                f"{sources[min(faults)]}: replace them or give --skip-corrupt again"
            )
        kept = self.images.take([row for row in range(len(self.images)) if row not in faults])
        return kept, [(str(sources[row]), reason) for row, reason in faults.items()]

    @cached_property
    def faults(self) -> dict[int, str]:
        """Row -> reason of the images that have no features, once all are computed."""
        return {row: reason for shard in self.shards for row, reason in shard.load()[1]}

    def blocks(self) -> Iterator[np.ndarray]:
        """(B, D) features of the images that have some, in order."""
        return shards.blocks(self.shards)

    def _fill(self, skip_corrupt: bool) -> None:
        """Compute and save what is pending."""
        fill(self.pending, self.images, self.extractor, skip_corrupt)


def fill(
    pending: Sequence[shards.Shard],
    images: ImageTable,
    extractor: FeatureExtractor,
    skip_corrupt: bool,
) -> None:
    """Compute the features of shards, and save each as soon as it is complete.

    Args:
        pending: their rows are those of `images`.
        skip_corrupt: images that cannot be read have no features; their shard names them.

    Raises:
        UserError: an image cannot be read, unless those are skipped; then nothing is computed.
    """
    rows = [row for shard in pending for row in shard.rows]
    faults = unreadable(images, rows, skip_corrupt)
    readable = images.take([row for row in rows if row not in faults])
    features = extractor.batches(readable.sources(), readable.modalities.tolist())
    shards.save_shards(pending, faults, features)


def unreadable(images: ImageTable, rows: Sequence[int], skip_corrupt: bool) -> dict[int, str]:
    """Row -> reason of those of the given rows whose images cannot be read.

    Raises:
        UserError: there is one, and such are not to be skipped.
    """
    sources = images.sources()
    wanted = {sources[row]: row for row in rows}
    if skip_corrupt:
        return {wanted[source]: reason for source, reason in find_faults(wanted)}
    try:
        verify_images(list(wanted))
    except UserError as error:
        raise UserError(f"{error}; or leave out what is broken with --skip-corrupt") from None
    return {}


class GalleryBuilder:
    """Computes the features of images shard by shard and makes a gallery of them.

    After an interruption, a builder of the same images and model continues: finished shards are
    kept in the staging folder until the gallery is complete.

    Args:
        folder: of the gallery.
        images: to index.
        extractor: computes their features.
        kind: key of `icre.gallery.index.KINDS`.
        shard_size: images per shard.
        features: computes them: `StagedFeatures` here, or one that has others do it.
    """

    def __init__(
        self,
        folder: Path,
        images: ImageTable,
        extractor: FeatureExtractor,
        kind: str = "flat",
        shard_size: int = 1024,
        features: Callable[..., StagedFeatures] = StagedFeatures,
    ):
        check_request(folder, images, kind, shard_size)
        self.folder, self.extractor, self.kind = folder, extractor, kind
        below = staging.staging_folder(folder) / staging.SHARDS
        self.staged = features(below, images, extractor, shard_size)

    def build(self, skip_corrupt: bool = False) -> tuple[ImageTable, Skipped]:
        """Compute the pending shards and write the gallery.

        Args:
            skip_corrupt: leave out images that cannot be read.

        Returns:
            The images of the gallery, and (path, reason) of those that were left out.

        Raises:
            UserError: an image cannot be read, too few are left for the kind of index, or another
                process builds this gallery.
        """
        with staging.staging(self.folder):
            kept, skipped = self.staged.compute(skip_corrupt)
            require_enough(self.kind, len(kept))
            extractor = self.extractor
            model = ModelInfo(str(extractor.weights), extractor.sha256, extractor.cfg.dump())
            parts = cut(kept, self.staged.blocks())
            writing.finish(self.folder, parts, model, self.kind, skipped)
        return kept, skipped


def add_images(
    gallery: FolderGallery,
    extractor: FeatureExtractor,
    images: ImageTable,
    shard_size: int = 1024,
    skip_corrupt: bool = False,
    features: Callable[..., StagedFeatures] = StagedFeatures,
) -> tuple[changes.Change, Skipped]:
    """Compute the features of images and add them to a gallery; continues after an interruption.

    Args:
        gallery, extractor: of `open_with_model`.
        images: none of them is in the gallery, see `changes.new_images`.
        shard_size: images between two saves.
        skip_corrupt: leave out images that cannot be read.
        features: as of `GalleryBuilder`.

    Raises:
        UserError: an image cannot be read or is in the gallery, or another process adds to it.
    """
    check_shard_size(shard_size)
    folder = gallery.folder / changes.ADDING
    with locked(folder, "gallery"):
        staged = features(folder, images, extractor, shard_size)
        kept, skipped = staged.compute(skip_corrupt)
        if not len(kept):
            raise UserError(f"none of {len(images)} images can be read: nothing is added")
        change = changes.add(gallery.folder, kept, staged.blocks(), skipped)
        shards.remove_shards(folder)
    return change, skipped


def open_with_model(
    store: Store, weights: str | Path | None = None, device: str = "auto", root: str | None = None
) -> tuple[Gallery, FeatureExtractor]:
    """Open a gallery and the model of its features.

    Args:
        store: the gallery's place.
        weights: the model's checkpoint; None: where it was when the gallery was built.
        device: auto, cpu or cuda:N.
        root: DATASETS.ROOT; None: the config's.

    Raises:
        UserError: the gallery is damaged, or the checkpoint is missing or another one.
        StoreUnavailable: the store does not answer.
    """
    gallery = store.open()
    weights = weights or gallery.manifest["model"]["weights"]
    if not Path(weights).is_file():
        raise UserError(f"the gallery's model {weights} is missing: name it with --weights")
    gallery.check_model(sha256_of(weights), str(weights))
    options = ["MODEL.DEVICE", device]
    if root:
        options += ["DATASETS.ROOT", root]
    cfg = read_config("", *options, text=gallery.config)
    extractor = FeatureExtractor(cfg, weights)
    return gallery.on(extractor.device), extractor


def features_of(extractor: FeatureExtractor, images: ImageTable) -> np.ndarray:
    """(N, D) float32 unit vectors of a table's images."""
    return extractor.features(images.sources(), images.modalities.tolist())


def held_out_people(extractor: FeatureExtractor) -> tuple[ImageTable, str]:
    """The images of the identities that DATASETS.VALIDATION holds out, and their name."""
    name = extractor.cfg.DATASETS.NAMES[0]
    data = load_dataset(extractor.cfg, name, validation=True)
    return collect([item[0] for item in data.query + data.gallery]), f"{name}'s held-out identities"


def calibrate_gallery(
    store: Store,
    gallery: Gallery,
    extractor: FeatureExtractor,
    people: ImageTable,
    source: str,
    held_out: bool,
) -> dict[str, Calibration]:
    """Calibrate a gallery by searches for people who are not in it; it keeps the result.

    Args:
        store: the gallery's place.
        gallery, extractor: of `open_with_model`.
        people: their images.
        source, held_out: see `Calibration`.

    Returns:
        Name of the queries' modality -> Calibration.
    """
    verify_images(people.sources())
    features = features_of(extractor, people)
    found = calibrate(gallery.images, gallery.nearest, people, features, source, held_out)
    store.save_calibrations(gallery, found)
    return found
