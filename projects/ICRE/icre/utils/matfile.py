"""Variables of MATLAB v5 files (MATLAB's default format): numbers, and cells of them.

scipy.io.loadmat reads these too, but some damaged files end the whole process in it (scipy 1.17);
here every length is checked against the file's, and sizes before anything is unpacked. The format:
MathWorks, "MAT-File Format", 2019.
"""

import itertools
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from icre.utils.unpack import unpacking_limit

_HEADER = 128  # bytes
_MATRIX, _COMPRESSED = 14, 15
_CELL, _COMPLEX = 1, 0x0800
_DEEP = 8  # cells in cells
MOST_CELLS = 2**18  # in a file
# type of an element, and class of an array -> NumPy's
_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_CLASSES = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
}


class Element(NamedTuple):
    """A tagged piece of a file."""

    kind: int
    data: memoryview


def read_variable(path: Path, name: str) -> np.ndarray | None:
    """The variable `name`, or None where the file has none of that name.

    A cell array has dtype object, its cells being arrays of numbers or cell arrays.

    Raises:
        ValueError: the file is damaged, is no MATLAB v5 file, or the variable holds other things.
    """
    if not path.is_file():  # a pipe would block
        raise ValueError("it is no regular file")
    content = memoryview(path.read_bytes())
    limit = unpacking_limit(len(content))
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[_HEADER - 2 : _HEADER]))
    if order is None:
        raise ValueError("no MATLAB v5 header")
    for element in _elements(content[_HEADER:], order):
        if element.kind == _COMPRESSED:
            inflated = _inflated(element.data, limit)
            limit -= len(inflated)
            element = next(_elements(inflated, order), element)
        if element.kind == _MATRIX and (array := _Array(element.data, order)).name == name:
            return array.value([MOST_CELLS])
    return None


def _inflated(data: memoryview, limit: int) -> memoryview:
    """Raises ValueError if the data are damaged or more than `limit` bytes."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(inflated) > limit:
        raise ValueError(f"a variable unpacks to more than {limit} bytes")
    if not stream.eof:
        raise ValueError("incomplete compressed data")
    return memoryview(inflated)


class _Array:
    """A named array; its value is read on demand."""

    def __init__(self, data: memoryview, order: str, depth: int = 0):
        self.order, self.depth = order, depth
        parts = _elements(data, order)
        head = [part.data for part in itertools.islice(parts, 3)]
        if len(head) < 3:
            raise ValueError("an array without a name")
        flags, shape, name = head
        if len(flags) < 4 or len(shape) < 8 or len(shape) % 4:
            raise ValueError("an array without a shape")
        self.flags = struct.unpack_from(f"{order}I", flags)[0]
        self.shape = struct.unpack(f"{order}{len(shape) // 4}i", shape)
        self.name = bytes(name).decode("latin-1")
        self.parts = parts
        if min(self.shape) < 0:
            raise ValueError(f"an array of shape {self.shape}")

    def value(self, cells_left: list[int]) -> np.ndarray:
        """The array, with MATLAB's shape.

        Args:
            cells_left: how many more cells may be read, in a list of one; it is lowered.
        """
        kind, count = self.flags & 0xFF, math.prod(self.shape)
        if kind == _CELL:
            cells_left[0] -= count
            if cells_left[0] < 0:
                raise ValueError(f"more than {MOST_CELLS} cells")
            parts = itertools.islice(self.parts, count + 1)
            cells = [self._cell(part, cells_left) for part in parts]
            if len(cells) != count or self.depth > _DEEP:
                raise ValueError(f"{len(cells)} cells where {count} should be")
            array = np.empty(count, dtype=object)
            for place, cell in enumerate(cells):
                array[place] = cell
            return array.reshape(self.shape, order="F")
        if kind not in _CLASSES or self.flags & _COMPLEX:
            raise ValueError(f"an array of class {kind}, which is none of real numbers")
        stored, data = next(self.parts, Element(2, memoryview(b"")))
        if stored not in _STORED:
            raise ValueError(f"numbers of type {stored}")
        dtype = np.dtype(self.order + _STORED[stored])
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"{len(data)} bytes where {count} numbers should be")
        return np.frombuffer(data, dtype).astype(_CLASSES[kind]).reshape(self.shape, order="F")

    def _cell(self, part: Element, cells_left: list[int]) -> np.ndarray:
        if part.kind != _MATRIX:
            raise ValueError("a cell that is no array")
        if not part.data:
            return np.empty((0, 0))
        return _Array(part.data, self.order, self.depth + 1).value(cells_left)


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    """The elements that stand one after the other in `data`."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        small = kind >> 16
        if small:  # up to four bytes, within the tag
            kind, size, start, end = kind & 0xFFFF, small, at + 4, at + 8
        else:
            start = at + 8
            end = start + (size if kind == _COMPRESSED else -(-size // 8) * 8)
        if start + size > len(data) or (small and size > 4):
            raise ValueError("the file is cut off")
        yield Element(kind, data[start : start + size])
        at = end
    if at < len(data) and any(data[at:]):
        raise ValueError("the file is cut off")
