"""Decoded images kept in memory, shared by all workers of a loader."""

import mmap
from collections.abc import Callable

import numpy as np

GIB = 1 << 30


class ImageCache:
    """The first images of a data set that fit a memory limit, each decoded once.

    The memory is anonymous and shared: forked workers fill it together (a write that two of them
    repeat writes the same bytes), and it is no file in /dev/shm, which containers keep small. Pages
    are taken from the machine only as they are filled.

    Args:
        count: images of the data set.
        size: (H, W) of each.
        limit: bytes to use at most; 0 caches nothing.
    """

    def __init__(self, count: int, size: tuple[int, int], limit: int):
        self.size, self.limit = size, limit
        shape = (*size, 3)
        self.capacity = min(count, int(limit) // int(np.prod(shape)))
        self._pixels = _shared((self.capacity, *shape))
        self._filled = _shared((self.capacity,))

    def get(self, index: int, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """Image `index`, (H, W, 3) uint8; from memory, or else from `decode`, which may raise."""
        if index >= self.capacity:
            return decode()
        if not self._filled[index]:
            self._pixels[index] = decode()
            self._filled[index] = 1  # after the pixels, so that no reader sees half an image
        return self._pixels[index]

    def __reduce__(self):
        """A worker that is not forked gets an empty cache of its own."""
        return type(self), (self.capacity, self.size, self.limit)


def _shared(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros of uint8 in memory that child processes share."""
    count = int(np.prod(shape))
    return np.frombuffer(mmap.mmap(-1, max(count, 1)), np.uint8, count).reshape(shape)
