"""Functions of arrays that give the same bits on every processor.

numpy picks another float32 arcsin, sine and exponential by the processor's vector instructions, and
they differ in the last bit: enough to change a grey value now and then, and with it a checksum. These
use additions, multiplications and square roots, which IEEE 754 fixes, or float64 and then rounding.
"""

import numpy as np

_HALF_PI = np.float32(np.pi / 2)
# Abramowitz and Stegun, Handbook of Mathematical Functions, 4.4.46: error below 2e-8 before rounding.
_ARCCOS = tuple(
    np.float32(c)
    for c in (
        -0.0012624911,
        0.0066700901,
        -0.0170881256,
        0.0308918810,
        -0.0501743046,
        0.0889789874,
        -0.2145988016,
        1.5707963050,
    )
)


def arcsin(x: np.ndarray) -> np.ndarray:
    """Inverse sine of float32 values in -1..1, to about 4e-7."""
    size = np.abs(x)
    series = _ARCCOS[0] * size
    for coefficient in _ARCCOS[1:-1]:
        series = (series + coefficient) * size
    return np.copysign(_HALF_PI - np.sqrt(1 - size) * (series + _ARCCOS[-1]), x)


def sin(x: np.ndarray) -> np.ndarray:
    """Sine of float32 values, rounded from float64."""
    return np.sin(x.astype(np.float64)).astype(np.float32)


def cos(x: np.ndarray) -> np.ndarray:
    """Cosine of float32 values, rounded from float64."""
    return np.cos(x.astype(np.float64)).astype(np.float32)


def length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Length of the vector (x, y)."""
    return np.sqrt(x * x + y * y)


def bell(square: np.ndarray) -> np.ndarray:
    """A soft bump of a squared distance: 1 at 0, about exp(-square)."""
    return 1 / (1 + square + square * square / 2)
