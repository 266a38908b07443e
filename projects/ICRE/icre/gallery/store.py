"""A gallery's folder, opened for searching.

    gallery.json      the manifest: model, kind of index, every file with its size and checksum
    config.yaml       the model's whole config
    segments/V-N/     rows: their features and table, as arrays (`icre.gallery.segments`)
    index/V-N.faiss   the index, except of a flat gallery, which is searched by its features
    index/V-N.npy     the row of each vector of the index, once some were removed
    removed.jsonl     what was removed, when and why
    answers.jsonl     where answers of this gallery were written

Files of a version never change; `gallery.json` alone says which files there are, and is replaced
atomically and last (`icre.gallery.versions`). A reader maps the files when it opens the gallery,
and so keeps the version that it opened.

What is checked at once is the structure: sizes, types, shapes and numbers that have to agree. The
content is checked where it is returned, and all of it, with the checksums, by
`icre.gallery.verify`: anybody can write a folder with checksums.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from icre.gallery import format1
from icre.gallery import index as indexes
from icre.gallery.arrays import file_size, map_array, no_unit_vector
from icre.gallery.calibration import Calibration
from icre.gallery.exact import best, exact
from icre.gallery.filters import Filter
from icre.gallery.manifest import CONFIG, VERSION, Status, read_until_stable, require_model, status
from icre.gallery.segments import Segment, StoredFeatures, StoredImages, open_segment
from icre.utils.errors import UserError
from icre.utils.files import sha256_of

INDEX_FOLDER = "index"
# A filter that leaves at most so many images, or this share of them, is searched exactly: a graph
# loses matches among few (measured: 16 % at 1.25 %).
EXACT_ROWS, EXACT_SHARE = 100_000, 1 / 8


@dataclass(frozen=True, eq=False)
class ModelInfo:
    """The model of a gallery: its checkpoint's path and SHA-256, and its config as YAML."""

    weights: str
    sha256: str
    config: str


@dataclass(frozen=True, eq=False)
class StoredIndex:
    """The index of the first `rows` images.

    Args:
        index: faiss's.
        rows: images that it holds; those behind them are compared one by one.
        slots: (M,) row of each of its vectors, -1 if removed; None: in order.
    """

    index: faiss.Index
    rows: int
    slots: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Gallery:
    """An opened version of a gallery.

    Args:
        folder: of its files.
        manifest: content of gallery.json.
        segments: its rows.
        stored: its index; None: exact search.
        opened: `manifest.status` when it was opened.
        calibrations: name of the queries' modality -> Calibration; empty before calibration.
        on_gpu: an index of all images on a GPU, for searches without a filter; see `on`.
    """

    folder: Path
    manifest: dict[str, Any]
    segments: list[Segment]
    stored: StoredIndex | None
    opened: Status | None = None
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    on_gpu: faiss.Index | None = None

    has_keys = False  # rows are numbers, which a change gives to other images

    @property
    def name(self) -> str:
        """Its folder, for messages."""
        return str(self.folder)

    @property
    def beside(self) -> int:
        """Images that are compared one by one beside the index."""
        return len(self.images) - self.stored.rows if self.stored else 0

    @property
    def config(self) -> str:
        """The model's config, YAML."""
        return (self.folder / CONFIG).read_text()

    @cached_property
    def images(self) -> StoredImages:
        """N rows."""
        return StoredImages(self.segments)

    @cached_property
    def features(self) -> StoredFeatures:
        """(N, D), mapped from disk."""
        return StoredFeatures(self.segments, self.manifest["dimensions"])

    @cached_property
    def modalities(self) -> np.ndarray:
        """The modalities that its images have, ascending."""
        return np.unique(self.images.modalities)

    @property
    def version(self) -> int:
        """Grows by one with each change."""
        return self.manifest.get(VERSION, 0)

    def is_current(self) -> bool:
        """Whether the folder still has the version that was opened; one `stat`."""
        return status(self.folder) == self.opened

    @property
    def change(self) -> dict[str, int]:
        """{images, added, removed}: images when it was calibrated, and what changed since."""
        same = {"images": len(self.images), "added": 0, "removed": 0}
        return self.manifest.get("calibrated", same)

    def nearest(
        self, queries: np.ndarray, top: int, filter: Filter | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best matches among the images that meet a filter.

        Args:
            queries: (Q, D) unit vectors.
            top: results per query.
            filter: None: all images. A narrow one is searched exactly.

        Returns:
            rows (Q, K) int64 and cosine similarities (Q, K), best first, K = min(top, images). An
            approximate index may find fewer: the rest is -1 and -inf.

        Raises:
            UserError: a condition that no image can meet (`Filter.check`), or a damaged row.
        """
        allowed = self.passing(filter) if filter else None
        count = len(self.images) if allowed is None else int(allowed.sum())
        narrow = allowed is not None and count <= max(EXACT_ROWS, EXACT_SHARE * len(allowed))
        if self.on_gpu is not None and allowed is None and count:
            kind = self.manifest["index"]
            found = indexes.nearest(kind, self.on_gpu, self.features, queries, top)
        elif self.stored is None or narrow or not count:
            found = exact(self._parts(0, allowed), queries, top)
        else:
            found = self._search_index(self.stored, queries, top, allowed)
        self._check(found[0])
        return found

    def on(self, device: torch.device) -> "Gallery":
        """The same gallery, searched on that device where faiss can; see `index.on_device`.

        Of an index that some images were added to, or removed from, the CPU keeps the search.
        """
        kind, stored = self.manifest["index"], self.stored
        changed = stored and (stored.slots is not None or stored.rows < len(self.images))
        if changed or not indexes.can_be_on(kind, device):
            return self
        index = stored.index if stored else indexes.build(kind, self.features, progress=False)
        return replace(self, on_gpu=indexes.on_device(kind, index, device))

    def passing(self, filter: Filter) -> np.ndarray:
        """(N,) which images meet a filter.

        Raises:
            UserError: see `Filter.check`.
        """
        filter.check([one.columns for one in self.segments], str(self.folder))
        masks = [filter.mask(one.columns) for one in self.segments]
        return np.concatenate([np.zeros(0, dtype=bool), *masks])

    def count(self, filter: Filter) -> int:
        """Images that meet a filter; errors as of `passing`."""
        return int(self.passing(filter).sum())

    def _search_index(
        self, stored: StoredIndex, queries: np.ndarray, top: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        kind, inside = self.manifest["index"], None if allowed is None else allowed[: stored.rows]
        first = indexes.nearest(
            kind, stored.index, self.features, queries, top, stored.slots, inside
        )
        rest = exact(self._parts(stored.rows, allowed), queries, top)
        rows, similarity = (np.concatenate(pair, axis=1) for pair in zip(first, rest))
        count = len(self.images) if allowed is None else int(allowed.sum())
        return best(rows, similarity, min(top, count))

    def _parts(self, first: int, allowed: np.ndarray | None) -> Iterator[tuple]:
        """What `exact` compares: the allowed rows from `first` on."""
        for start, segment in zip(self.images.starts.tolist(), self.segments):
            skip = max(first - start, 0)
            if skip >= len(segment):
                continue
            inside = None if allowed is None else allowed[start + skip : start + len(segment)]
            chosen = None if inside is None or inside.all() else np.flatnonzero(inside)
            yield start + skip, segment.features[skip:], chosen

    def _check(self, rows: np.ndarray) -> None:
        """What is returned is as it has to be."""
        found = np.unique(rows)
        found = found[found >= 0]
        for start in range(0, len(found), indexes.BLOCK):
            part = found[start : start + indexes.BLOCK]
            wrong = no_unit_vector(self.features[part])
            if wrong is not None:
                row = part[wrong]
                raise UserError(
                    f"gallery {self.folder} is damaged: the feature of row {row} "
                    f"({self.images.row(row)['path']}) is no unit vector; index again"
                )

    def check_model(self, sha256: str, weights: str) -> None:
        """Raise UserError unless this is the SHA-256 of the checkpoint that the features are of."""
        require_model(self.name, self.manifest["model"], sha256, weights)


def open_gallery(folder: str | Path) -> Gallery:
    """Open the newest version of a gallery; files are mapped, and their structure is checked.

    Raises:
        UserError: there is none, it is unfinished, of another format, or damaged (names the file).
    """
    folder = Path(folder)

    def read(manifest: dict[str, Any], opened: Status | None) -> Gallery:
        calibrations = {
            name: Calibration.from_dict(one) for name, one in manifest["calibrations"].items()
        }
        if manifest["format"] == 1:
            segments, index = format1.read(folder, manifest)
            stored = None if index is None else StoredIndex(index, manifest["images"])
        else:
            file_size(folder / CONFIG)
            if sha256_of(folder / CONFIG) != manifest["config"]["sha256"]:
                raise ValueError(f"{CONFIG} is not as it was written (its SHA-256 differs)")
            segments = [
                open_segment(folder, entry, manifest["dimensions"])
                for entry in manifest["segments"]
            ]
            stored = open_index(folder, manifest, segments)
        return Gallery(folder, manifest, segments, stored, opened, calibrations)

    try:
        return read_until_stable(folder, read)
    except FileNotFoundError as error:
        name = Path(error.filename).relative_to(folder)
        raise UserError(f"gallery {folder} is damaged: {name} is missing; index again") from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"gallery {folder} is damaged: {error}; index again") from None


def index_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """The files of an index: its vectors, and the rows that they have after a removal."""
    return folder / INDEX_FOLDER / f"{name}.faiss", folder / INDEX_FOLDER / f"{name}.npy"


def open_index(
    folder: Path, manifest: dict[str, Any], segments: list[Segment], mapped: bool = True
) -> StoredIndex | None:
    """Open the index of a manifest of this format; arguments as of `Gallery` and `index.load`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: names the file that is damaged.
    """
    entry, kind, dimensions = manifest["index_file"], manifest["index"], manifest["dimensions"]
    if entry is None:
        return None
    path, rows = index_paths(folder, entry["name"])
    for file, info in ((path, entry["file"]), (rows, entry["slots"])):
        if info is not None and file_size(file) != info["bytes"]:
            raise ValueError(f"{file.name} has another size than it was written with")
    slots = None
    if entry["slots"] is not None:
        slots = map_array(rows, np.int64, [entry["vectors"]])
        live = slots[slots >= 0]
        if len(live) != entry["rows"] or (len(live) and live.max() >= entry["rows"]):
            raise ValueError(f"{rows.name} does not name {entry['rows']} rows")
    try:
        index = indexes.load(kind, str(path), entry["vectors"], dimensions, entry["rows"], mapped)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if kind == "hnsw":
        _give_vectors(index, StoredFeatures(segments, dimensions), entry["vectors"], slots)
    return StoredIndex(index, entry["rows"], slots)


def _give_vectors(
    index: faiss.Index, features: StoredFeatures, count: int, slots: np.ndarray | None
) -> None:
    """The features of a graph's rows, in its order; those that were removed are 0."""
    vectors = faiss.IndexFlatIP(index.d)
    for start in range(0, count, indexes.BLOCK):
        if slots is None:
            block = features[start : min(start + indexes.BLOCK, count)]
        else:
            rows = slots[start : start + indexes.BLOCK]
            block = np.zeros((len(rows), index.d), dtype=np.float32)
            block[rows >= 0] = features[rows[rows >= 0]]
        vectors.add(np.ascontiguousarray(block))
    indexes.set_vectors(index, vectors)
