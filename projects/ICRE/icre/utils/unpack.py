"""How much a packed file may hold: two megabytes can stand for gigabytes of equal numbers."""

_BASE, _TIMES = 64 * 2**20, 20  # features of networks shrink by far less


def unpacking_limit(file_size: int) -> int:
    """Most bytes that a file of `file_size` bytes may unpack to: 64 MiB and 20 times its size."""
    return _BASE + _TIMES * file_size
