"""The table of a gallery's images as arrays that are mapped from disk and decoded row by row."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from icre.gallery.arrays import FileInfo, map_array, write_array
from icre.gallery.table import TIME, ImageTable
from icre.modality import NAMES
from icre.utils.errors import UserError

DAMAGED = "the gallery is damaged ({}): run tools/search.py verify, or index again"
NAMED = ("camera", "identity")  # coded columns of every gallery


@dataclass(frozen=True, eq=False)
class Texts(Sequence[str]):
    """N texts: their UTF-8 bytes one after the other, and where each ends.

    Bytes of file names that are no UTF-8 are kept (surrogateescape).
    """

    data: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Encode texts."""
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends.reshape(-1))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> str:  # type: ignore[override]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        start, end = int(self.ends[row - 1]) if row else 0, int(self.ends[row])
        if not 0 <= start <= end <= len(self.data):
            raise UserError(DAMAGED.format(f"text {row} ends before it begins"))
        return self.data[start:end].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        data, start = self.data.tobytes(), 0
        for end in self.ends.tolist():
            if not 0 <= start <= end <= len(data):
                raise UserError(DAMAGED.format("a text ends before it begins"))
            yield data[start:end].decode("utf-8", "surrogateescape")
            start = end

    def isin(self, wanted: Collection[str]) -> np.ndarray:
        """(N,) which texts are among the wanted ones."""
        return np.fromiter((text in wanted for text in self), dtype=bool, count=len(self))

    def take(self, rows: np.ndarray) -> Self:
        """The given rows in ascending order: (n,) integers."""
        keep = np.zeros(len(self), dtype=bool)
        keep[rows] = True
        sizes = np.diff(self.ends, prepend=0)
        if len(sizes) and (sizes.min() < 0 or self.ends[-1] != len(self.data)):
            raise UserError(DAMAGED.format("a text ends before it begins"))
        return type(self)(self.data[np.repeat(keep, sizes)], np.cumsum(sizes[keep]))


@dataclass(frozen=True, eq=False)
class Coded(Sequence[str]):
    """N texts of few different values: (N,) int32 numbers of the names."""

    codes: np.ndarray
    names: Texts

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Number the different texts in the order in which they appear."""
        numbers: dict[str, int] = {}
        codes = [numbers.setdefault(text, len(numbers)) for text in texts]
        return cls(np.array(codes, dtype=np.int32), Texts.of(list(numbers)))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> str:  # type: ignore[override]
        code = int(self.codes[row])
        if not 0 <= code < len(self.names):
            raise UserError(DAMAGED.format(f"row {row} has name {code} of {len(self.names)}"))
        return self.names[code]

    def __iter__(self) -> Iterator[str]:
        names = list(self.names)
        for code in self.codes.tolist():
            if not 0 <= code < len(names):
                raise UserError(DAMAGED.format(f"a row has name {code} of {len(names)}"))
            yield names[code]

    def take(self, rows: np.ndarray) -> Self:
        """The given rows in ascending order, with only the names that these have."""
        used, codes = np.unique(self.codes[rows], return_inverse=True)
        if len(used) and not (used[0] >= 0 and used[-1] < len(self.names)):
            raise UserError(DAMAGED.format(f"a row has name {used[-1]} of {len(self.names)}"))
        return type(self)(codes.reshape(-1).astype(np.int32), self.names.take(used))

    def isin(self, wanted: Collection[str]) -> np.ndarray:
        """(N,) which texts are among the wanted ones."""
        table = self.names.isin(wanted)
        if not len(table):
            return np.zeros(len(self), dtype=bool)
        return table[np.clip(self.codes, 0, len(table) - 1)]


@dataclass(frozen=True, eq=False)
class Columns:
    """A table of N images.

    Args:
        paths: N absolute paths.
        modalities: (N,) uint8 of `icre.modality`.
        times: (N,) datetime64[us], UTC; NaT if unknown.
        boxes: (N, 4) int32 x, y, width, height in pixels; all 0 for a whole image.
        texts: name -> column; camera, identity and the attributes.
    """

    paths: Texts
    modalities: np.ndarray
    times: np.ndarray
    boxes: np.ndarray
    texts: dict[str, Coded]

    @classmethod
    def of(cls, table: ImageTable) -> Self:
        """Encode a table."""
        texts = {"camera": table.cameras, "identity": table.identities, **table.attributes}
        return cls(
            Texts.of(table.paths),
            table.modalities.astype(np.uint8),
            table.times,
            table.boxes,
            {name: Coded.of(column) for name, column in texts.items()},
        )

    def __len__(self) -> int:
        return len(self.modalities)

    @cached_property
    def attributes(self) -> list[str]:
        """Names of the further columns."""
        return [name for name in self.texts if name not in NAMED]

    def take(self, rows: np.ndarray) -> Self:
        """The given rows in ascending order: (n,) integers."""
        return type(self)(
            self.paths.take(rows),
            self.modalities[rows],
            self.times[rows],
            self.boxes[rows],
            {name: column.take(rows) for name, column in self.texts.items()},
        )

    def table(self, rows: Sequence[int] | np.ndarray | None = None) -> ImageTable:
        """All rows, or the given ones in that order, decoded."""

        def pick(column: Sequence[str]) -> list[str]:
            return list(column) if rows is None else [column[int(row)] for row in rows]

        where = slice(None) if rows is None else np.asarray(rows, dtype=int)
        modalities = self.modalities[where].astype(np.int64)
        if len(modalities) and modalities.max() >= len(NAMES):
            raise UserError(DAMAGED.format(f"an image has modality {modalities.max()}"))
        return ImageTable(
            pick(self.paths),
            modalities,
            pick(self.texts["camera"]),
            pick(self.texts["identity"]),
            np.array(self.times[where]),
            np.array(self.boxes[where]),
            {name: pick(self.texts[name]) for name in self.attributes},
        )

    def save(self, folder: Path) -> dict[str, FileInfo]:
        """Write a file per array; returns {name of the file: its size and checksum}."""
        return {name: write_array(folder / name, array) for name, array in self.arrays().items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Name of the file -> its content."""
        found = {
            "modality.npy": self.modalities,
            "time.npy": self.times,
            "box.npy": self.boxes,
            "path.bytes.npy": self.paths.data,
            "path.ends.npy": self.paths.ends,
        }
        for number, column in enumerate(self.texts.values()):
            found[f"text{number}.codes.npy"] = column.codes
            found[f"text{number}.bytes.npy"] = column.names.data
            found[f"text{number}.ends.npy"] = column.names.ends
        return found

    @classmethod
    def open(cls, folder: Path, count: int, attributes: Sequence[str]) -> Self:
        """Map the files that `save` wrote.

        Raises:
            FileNotFoundError: one is missing.
            ValueError: one holds another type or number of values.
        """

        def texts(name: str, rows: int | None) -> Texts:
            data = map_array(folder / f"{name}.bytes.npy", np.uint8, [None])
            ends = map_array(folder / f"{name}.ends.npy", np.int64, [rows])
            if (int(ends[-1]) if len(ends) else 0) != len(data):
                raise ValueError(f"{name}.ends.npy does not end where {name}.bytes.npy does")
            return Texts(data, ends)

        def coded(number: int) -> Coded:
            codes = map_array(folder / f"text{number}.codes.npy", np.int32, [count])
            return Coded(codes, texts(f"text{number}", None))

        return cls(
            texts("path", count),
            map_array(folder / "modality.npy", np.uint8, [count]),
            map_array(folder / "time.npy", TIME, [count]),
            map_array(folder / "box.npy", np.int32, [count, 4]),
            {name: coded(number) for number, name in enumerate((*NAMED, *attributes))},
        )

    def check(self) -> None:
        """Read everything.

        Raises:
            UserError: a text, a name's number or a modality is damaged, or a path is empty.
        """
        table = self.table()
        if not all(table.paths):
            raise UserError(DAMAGED.format("an image has no path"))
        boxes = self.boxes[(self.boxes != 0).any(1)]
        if len(boxes) and boxes[:, 2:].min() <= 0:
            raise UserError(DAMAGED.format("a box has no area"))
