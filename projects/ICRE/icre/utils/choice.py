"""Options that take one of several known values, and the order in which names are listed."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from icre.utils.errors import UserError

T = TypeVar("T")


def one_of(key: str, value: T, known: Iterable[T]) -> T:
    """Return `value` if it is known.

    Args:
        key: config key of the option, for the message.
        value: of the option.
        known: allowed values.

    Raises:
        UserError: unknown value; the message lists the known ones.
    """
    known = list(known)
    if value not in known:
        raise UserError(f"{key}: unknown value {value!r}; known: {', '.join(map(str, known))}")
    return value


def pick(key: str, name: str, table: Mapping[str, T]) -> T:
    """`table[name]`; raises UserError as `one_of` does if there is no such name."""
    return table[one_of(key, name, table)]


def natural(name: str) -> tuple:
    """Sort key of a name by which its numbers count: cam2 is before cam10."""
    parts = re.split("([0-9]+)", name)  # text and digits in turn
    numbers = (part.lstrip("0") for part in parts[1::2])  # compared as texts: of any length
    return tuple((text, len(number), number) for text, number in zip(parts[::2], [*numbers, ""]))
