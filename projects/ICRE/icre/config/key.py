"""What is said of a config key: default, meaning, allowed values, unit and source."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

KEEP = object()  # default of a key that fast-reid defines and whose default stays


@dataclass(frozen=True)
class Key:
    """One config key.

    Attributes:
        name: dotted name.
        default: of the type that the key must have; KEEP for a key of fast-reid's.
        meaning: one line.
        choices: allowed values; of a tuple, allowed entries. Empty: any.
        minimum: smallest allowed number, or entry of a list.
        above: all allowed numbers, or entries of a list, are larger.
        maximum: largest allowed number, or entry of a list.
        lengths: allowed numbers of entries of a list; empty: any.
        number: a number or None is allowed, whatever the type of the default.
        unit: of the value.
        source: paper that the default or the method is from.
    """

    name: str
    default: Any
    meaning: str
    choices: Sequence[Any] = ()
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    lengths: Sequence[int] = ()
    number: bool = False
    unit: str = ""
    source: str = ""
