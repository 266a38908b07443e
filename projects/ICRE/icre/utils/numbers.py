"""Numbers that a caller gives by hand."""

import math
import numbers
from typing import Any

from icre.utils.errors import UserError


def real(name: str, value: Any) -> float:
    """A finite number as float; integers are numbers too.

    Args:
        name: of the argument, for the message.
        value: Python's or NumPy's.

    Raises:
        UserError: text, a bool, a tensor, NaN or infinity.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise UserError(f"{name} is {value!r}: give a finite number")
    return float(value)


def count(name: str, value: Any, least: int = 1) -> int:
    """An integer from `least` on; raises UserError, as `real` does, on anything else."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < least:
        raise UserError(f"{name} is {value!r}: give an integer from {least} on")
    return int(value)
