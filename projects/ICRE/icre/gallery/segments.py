"""Segments: the rows of a gallery in immutable parts, each a folder of mapped arrays.

An addition writes one more segment, a removal writes anew those that held a removed row.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from icre.gallery.arrays import file_size, map_array, require_unchanged, sync_tree, write_blocks
from icre.gallery.columns import Columns
from icre.gallery.table import TIME, ImageTable

SEGMENTS, FEATURES = "segments", "features.npy"
SEGMENT_ROWS = 32_768  # most rows of one: what a removal of one image writes anew

WRITERS = 3  # that compute checksums, write, or wait for the disk

Part = tuple[Columns, Sequence[np.ndarray]]  # N rows, and their features in blocks (n, D)


@dataclass(frozen=True, eq=False)
class Segment:
    """Some consecutive rows of a gallery.

    Args:
        entry: in the manifest: name, images, attributes, files.
        columns: N rows.
        features: (N, D) float32, mapped.
    """

    entry: dict[str, Any]
    columns: Columns
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.columns)


def open_segment(folder: Path, entry: dict[str, Any], dimensions: int) -> Segment:
    """Map the files of a segment; `folder` is the gallery's.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: one has another size, type or shape than the manifest says.
    """
    below, count = folder / SEGMENTS / entry["name"], entry["images"]
    for name, info in entry["files"].items():
        try:
            size = file_size(below / name)
        except ValueError as error:
            raise ValueError(f"{entry['name']}/{error}") from None
        if size != info["bytes"]:
            raise ValueError(f"{entry['name']}/{name} has {size} bytes, not {info['bytes']}")
    try:
        columns = Columns.open(below, count, entry["attributes"])
        features = map_array(below / FEATURES, "float32", (count, dimensions))
    except ValueError as error:
        raise ValueError(f"{entry['name']}/{error}") from None
    unknown = {*columns.arrays(), FEATURES} ^ set(entry["files"])
    if unknown:
        raise ValueError(f"{entry['name']}/{min(unknown)} is no file that the manifest has to name")
    return Segment(entry, columns, features)


def require_intact(folder: Path, segment: Segment) -> None:
    """Compare a segment with its checksums; before its rows get new ones.

    Raises:
        UserError: names the file that is not as it was written.
    """
    for name, info in segment.entry["files"].items():
        path = folder / SEGMENTS / segment.entry["name"] / name
        require_unchanged(folder, path, info["sha256"])


def write_segments(folder: Path, version: int, parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Write parts of at most SEGMENT_ROWS rows as segments of a gallery; returns their entries."""
    entries, running = [], deque()
    with ThreadPoolExecutor(WRITERS) as pool:  # what they do releases Python's lock
        for number, part in enumerate(parts):
            if len(running) == WRITERS:  # more would only wait in memory
                entries.append(running.popleft().result())
            running.append(pool.submit(_write, folder, f"{version}-{number}", *part))
        return entries + [one.result() for one in running]


def _write(
    folder: Path, name: str, columns: Columns, blocks: Sequence[np.ndarray]
) -> dict[str, Any]:
    below = folder / SEGMENTS / name
    below.mkdir(parents=True)
    files = columns.save(below)
    shape = blocks[0].shape[1:]
    files[FEATURES] = write_blocks(below / FEATURES, blocks, len(columns), "<f4", shape)
    sync_tree(below)  # while others are computed
    return {"name": name, "images": len(columns), "attributes": columns.attributes, "files": files}


def cut(images: ImageTable, blocks: Iterable[np.ndarray]) -> Iterator[Part]:
    """Parts of SEGMENT_ROWS rows from a table (N rows) and its features in blocks of any size."""
    waiting: list[np.ndarray] = []
    start = 0
    for block in blocks:
        while len(block):
            room = SEGMENT_ROWS - sum(map(len, waiting))
            waiting.append(block[:room])
            block = block[room:]
            if sum(map(len, waiting)) == SEGMENT_ROWS:
                yield _part(images, start, waiting)
                start, waiting = start + SEGMENT_ROWS, []
    if waiting:
        yield _part(images, start, waiting)
        start += sum(map(len, waiting))
    if start != len(images):
        raise ValueError(f"{start} features for {len(images)} images")


def _part(images: ImageTable, start: int, blocks: list[np.ndarray]) -> Part:
    rows = range(start, min(start + sum(map(len, blocks)), len(images)))
    return Columns.of(images.take(rows)), blocks


class Rows:
    """The segments of a gallery, with one numbering of their rows."""

    def __init__(self, segments: Sequence[Segment]):
        self.segments = segments
        self.starts = np.cumsum([0, *map(len, segments)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def place(self, row: int) -> tuple[Segment, int]:
        """The segment of a row, and the row's number in it."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.segments[number], int(row - self.starts[number])

    def split(self, rows: np.ndarray) -> Iterator[tuple[Segment, np.ndarray, np.ndarray]]:
        """(segment, places in `rows`, rows in the segment) of each segment that has some."""
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            yield self.segments[number], places, rows[places] - self.starts[number]


class StoredImages(Rows):
    """The table of a gallery; decodes only the rows that are asked for."""

    is_sampled = False

    def row(self, row: int) -> dict[str, Any]:
        """As `ImageTable.row`."""
        segment, place = self.place(int(row))
        return segment.columns.table([place]).row(0)

    def key(self, row: int) -> tuple:
        """Path and box of a row, as `ImageTable.keys`."""
        segment, place = self.place(int(row))
        return (segment.columns.paths[place], *segment.columns.boxes[place].tolist())

    def find(self, row: str) -> dict[str, Any]:
        """As `row`, of a number as text; LookupError if there is none."""
        if not (row.isascii() and row.isdecimal() and len(row) < 19):
            raise LookupError(row)
        return self.row(int(row))

    def take(self, rows: Sequence[int] | np.ndarray) -> ImageTable:
        """The given rows, in that order."""
        empty = ImageTable([], np.zeros(0, dtype=np.int64), [], [])
        places, tables = [np.zeros(0, dtype=int)], [empty]
        for segment, where, inside in self.split(np.asarray(rows, dtype=int)):
            places.append(where)
            tables.append(segment.columns.table(inside))
        return ImageTable.joined(tables).take(np.argsort(np.concatenate(places)))

    def table(self) -> ImageTable:
        """All rows."""
        return ImageTable.joined([segment.columns.table() for segment in self.segments])

    @cached_property
    def paths(self) -> list[str]:
        """All paths."""
        return [path for segment in self.segments for path in segment.columns.paths]

    @cached_property
    def modalities(self) -> np.ndarray:
        """(N,) integers of `icre.modality`."""
        parts = [segment.columns.modalities for segment in self.segments]
        return np.concatenate([np.zeros(0, np.uint8), *parts])

    @cached_property
    def attributes(self) -> list[str]:
        """Names of the further columns, sorted."""
        return sorted({name for one in self.segments for name in one.columns.attributes})

    @cached_property
    def time_span(self) -> tuple[str, str] | None:
        """The first and the last time, ISO 8601, UTC; None: no image has one."""
        parts = [one.columns.times for one in self.segments]
        times = np.concatenate([np.zeros(0, TIME), *parts])
        times = times[~np.isnat(times)]
        return (f"{times.min()}Z", f"{times.max()}Z") if len(times) else None

    def names(self, column: str, wanted: Sequence[str] | None = None) -> set[str]:
        """Different texts of a column, such as identity, without those that are unknown.

        Args:
            column: its name.
            wanted: of these names those that are there; None: all.
        """
        columns = (one.columns.texts.get(column) for one in self.segments)
        found = {name for found in columns if found for name in found.names} - {""}
        return found if wanted is None else found & set(wanted)

    def known(self, images: ImageTable) -> np.ndarray:
        """(n,) which images of a table are here already, by path and box."""
        paths, found = frozenset(images.paths), set()
        for one in self.segments:
            columns = one.columns
            for row in np.flatnonzero(columns.paths.isin(paths)).tolist():
                found.add((columns.paths[row], *columns.boxes[row].tolist()))
        wanted = images.keys()
        return np.array([key in found for key in wanted], dtype=bool)

    def keys(self) -> set[tuple]:
        """As `ImageTable.keys`."""
        return {
            (path, *box)
            for one in self.segments
            for path, box in zip(one.columns.paths, one.columns.boxes.tolist())
        }


class StoredFeatures(Rows):
    """(N, D) float32 unit vectors, mapped; indexed by a row, by rows (n,) or by a slice."""

    def __init__(self, segments: Sequence[Segment], dimensions: int):
        super().__init__(segments)
        self.shape = len(self), dimensions

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._range(start, stop)
            rows = np.arange(start, stop, step)
        if np.ndim(rows) == 0:
            segment, place = self.place(int(rows))
            return segment.features[place]
        result = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        for segment, places, inside in self.split(np.asarray(rows, dtype=int)):
            result[places] = segment.features[inside]
        return result

    def _range(self, start: int, stop: int) -> np.ndarray:
        parts = [
            segment.features[max(start - first, 0) : max(stop - first, 0)]
            for first, segment in zip(self.starts, self.segments)
            if first < stop and first + len(segment) > start
        ]
        empty = np.empty((0, self.shape[1]), dtype=np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate([empty, *parts])

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        whole = self._range(0, len(self))
        return whole if dtype is None else whole.astype(dtype)
