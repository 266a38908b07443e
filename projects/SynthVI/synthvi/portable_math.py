"""Math functions that give the same bits on every processor.

numpy chooses its float32 arcsin, sin and exp by the processor's vector instructions, and their last
bits differ. That is enough to change a grey value now and then, and with it a checksum. The
functions here use additions, multiplications and square roots, whose rounding IEEE 754 fixes, or
float64 with a final rounding to float32.
"""

import numpy as np

_HALF_PI = np.float32(np.pi / 2)
# Polynomial of arccos(x) / sqrt(1 - x), highest power first: Abramowitz and Stegun, Handbook of
# Mathematical Functions, 4.4.46. Its error is below 2e-8 before rounding.
_ARCCOS = np.array(
    [
        -0.0012624911,
        0.0066700901,
        -0.0170881256,
        0.0308918810,
        -0.0501743046,
        0.0889789874,
        -0.2145988016,
        1.5707963050,
    ],
    np.float32,
)


def clip(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """`numpy.clip`, whose checks of its arguments take longer than the work on a small array."""
    return np.minimum(np.maximum(x, low), high)


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


def hypot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Length of the vector (x, y)."""
    return np.sqrt(x * x + y * y)


def bell(square: np.ndarray) -> np.ndarray:
    """A bell curve of a squared distance: 1 at 0, approximately exp(-square)."""
    return 1 / (1 + square + square * square / 2)
