"""Galleries with the model of their features: building, opening and calibrating them."""

from pathlib import Path

import numpy as np

import icre.compat  # noqa: F401

from icre.datasets import load_dataset
from icre.gallery import shards, staging, store
from icre.gallery.calibration import Calibration, calibrate
from icre.gallery.images import ImageTable, collect
from icre.gallery.index import require_enough
from icre.gallery.store import Gallery, ModelInfo
from icre.inference.extractor import FeatureExtractor, read_config
from icre.utils.errors import UserError
from icre.utils.files import sha256_of
from icre.utils.image import find_faults, verify_images


def check_request(folder: Path, images: ImageTable, kind: str, shard_size: int) -> None:
    """Find what would stop a `GalleryBuilder`, before the model is opened.

    Raises:
        UserError: the folder exists, something else is in the place of its staging folder, or the
            images are too few for this kind of index.
    """
    staging.check_absent(folder)
    staging.check_staging(folder)
    if shard_size < 1:
        raise UserError(f"--shard {shard_size}: at least 1 image")
    require_enough(kind, len(images))


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
    """

    def __init__(
        self,
        folder: Path,
        images: ImageTable,
        extractor: FeatureExtractor,
        kind: str = "flat",
        shard_size: int = 1024,
    ):
        check_request(folder, images, kind, shard_size)
        self.folder, self.images, self.extractor, self.kind = folder, images, extractor, kind
        below = staging.staging_folder(folder) / staging.SHARDS
        self.shards = shards.plan(below, images, extractor.fingerprint, shard_size)
        self.pending = [shard for shard in self.shards if shard.load() is None]

    def build(self, skip_corrupt: bool = False) -> tuple[ImageTable, list[tuple[str, str]]]:
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
            return self._build(skip_corrupt)

    def _build(self, skip_corrupt: bool) -> tuple[ImageTable, list[tuple[str, str]]]:
        self._compute(self._find_faults(skip_corrupt))
        faults = {row: reason for shard in self.shards for row, reason in shard.load()[1]}
        if faults and not skip_corrupt:
            raise UserError(
                f"{len(faults)} images were skipped before, the first is "
                f"{self.images.paths[min(faults)]}: replace them or give --skip-corrupt again"
            )
        kept = self.images.take([row for row in range(len(self.images)) if row not in faults])
        require_enough(self.kind, len(kept))
        skipped = [(self.images.paths[row], reason) for row, reason in faults.items()]
        extractor = self.extractor
        model = ModelInfo(str(extractor.weights), extractor.sha256, extractor.cfg.dump())
        store.finish(self.folder, kept, shards.blocks(self.shards), model, self.kind, skipped)
        return kept, skipped

    def _find_faults(self, skip_corrupt: bool) -> dict[int, str]:
        """Row -> reason of the pending images that cannot be read."""
        rows = {self.images.paths[row]: row for shard in self.pending for row in shard.rows}
        if skip_corrupt:
            return {rows[path]: reason for path, reason in find_faults(rows)}
        try:
            verify_images(list(rows))
        except UserError as error:
            raise UserError(f"{error}; or leave out what is broken with --skip-corrupt") from None
        return {}

    def _compute(self, faults: dict[int, str]) -> None:
        rows = [row for shard in self.pending for row in shard.rows if row not in faults]
        images = self.images.take(rows)
        features = self.extractor.batches(images.paths, images.modalities.tolist())
        shards.save_shards(self.pending, faults, features)


def open_with_model(
    folder: str | Path,
    weights: str | Path | None = None,
    device: str = "auto",
    root: str | None = None,
) -> tuple[Gallery, FeatureExtractor]:
    """Open a gallery and the model of its features.

    Args:
        folder: of the gallery.
        weights: the model's checkpoint; None: where it was when the gallery was built.
        device: auto, cpu or cuda:N.
        root: DATASETS.ROOT; None: the config's.

    Raises:
        UserError: the gallery is damaged, or the checkpoint is missing or another one.
    """
    gallery = store.open_gallery(folder)
    weights = weights or gallery.manifest["model"]["weights"]
    if not Path(weights).is_file():
        raise UserError(f"the gallery's model {weights} is missing: name it with --weights")
    gallery.check_model(sha256_of(weights), str(weights))
    options = ["MODEL.DEVICE", device]
    if root:
        options += ["DATASETS.ROOT", root]
    cfg = read_config(gallery.folder / store.CONFIG, *options)
    extractor = FeatureExtractor(cfg, weights)
    return gallery.on(extractor.device), extractor


def features_of(extractor: FeatureExtractor, images: ImageTable) -> np.ndarray:
    """(N, D) float32 unit vectors of a table's images."""
    return extractor.features(images.paths, images.modalities.tolist())


def held_out_people(extractor: FeatureExtractor) -> tuple[ImageTable, str]:
    """The images of the identities that DATASETS.VALIDATION holds out, and their name."""
    name = extractor.cfg.DATASETS.NAMES[0]
    data = load_dataset(extractor.cfg, name, validation=True)
    return collect([item[0] for item in data.query + data.gallery]), f"{name}'s held-out identities"


def calibrate_gallery(
    gallery: Gallery, extractor: FeatureExtractor, people: ImageTable, source: str, held_out: bool
) -> dict[str, Calibration]:
    """Calibrate a gallery by searches for people who are not in it; it keeps the result.

    Args:
        gallery, extractor: of `open_with_model`.
        people: their images.
        source, held_out: see `Calibration`.

    Returns:
        Name of the queries' modality -> Calibration.
    """
    verify_images(people.paths)
    features = features_of(extractor, people)
    found = calibrate(gallery.images, gallery.nearest, people, features, source, held_out)
    store.save_calibrations(gallery, found)
    return found
