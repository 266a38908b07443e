"""Filters in Milvus' language."""

from collections.abc import Iterable

import numpy as np

from icre.gallery.filters import Filter
from icre.gallery.table import NO_TIME
from icre.modality import NAMES

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quote(text: str) -> str:
    """A text as a literal."""
    return '"' + "".join(_ESCAPES.get(letter, letter) for letter in text) + '"'


def among(field: str, texts: Iterable[str]) -> str:
    """The field is one of these."""
    return f"{field} in [{', '.join(map(quote, texts))}]"


def both(*conditions: str) -> str:
    """All of the conditions that are not ""."""
    parts = [one for one in conditions if one]
    return " and ".join(f"({one})" for one in parts) if len(parts) > 1 else "".join(parts)


def expression(filter: Filter) -> str:
    """The images that meet a filter, and where `is_exact` is False others too; "": all."""
    parts = []
    if filter.modality:
        numbers = [str(NAMES.index(name)) for name in filter.modality]
        parts.append(f"modality in [{', '.join(numbers)}]")
    if filter.camera:
        parts.append(among("camera", filter.camera))
    if filter.not_camera:
        parts.append(f"not ({among('camera', filter.not_camera)})")
    if filter.identity:
        parts.append(among("identity", filter.identity))
    if filter.after is not None:
        parts.append(f"time >= {_microseconds(filter.after)}")
    if filter.before is not None:
        parts.append(f"time < {_microseconds(filter.before)}")
        parts.append(f"time > {_microseconds(NO_TIME)}")
    if filter.path:
        parts.append(" or ".join(f"path like {quote(_like(one))}" for one in filter.path))
    for name in dict.fromkeys(name for name, _ in filter.where):
        wanted = [value for key, value in filter.where if key == name]
        parts.append(" or ".join(_attribute(name, value) for value in wanted))
    return both(*parts)


def has(column: str, name: str) -> str:
    """The rows that have a text in a column: camera, identity or an attribute."""
    named = column in ("camera", "identity")
    return f"{column} == {quote(name)}" if named else _attribute(column, name)


def has_attribute(name: str) -> str:
    """The rows where an attribute is known."""
    return f"exists attributes[{quote(name)}]"


def is_exact(filter: Filter) -> bool:
    """Whether `expression` says all: LIKE knows `*` of the patterns of paths, and no more."""
    return not any(set(one) & set("?[") for one in filter.path)


def _attribute(name: str, value: str) -> str:
    field = f"attributes[{quote(name)}]"
    return f"{field} == {quote(value)}" if value else f"not (exists {field})"


def _microseconds(time: np.datetime64) -> int:
    return int(time.astype("M8[us]").astype(np.int64))


def _like(pattern: str) -> str:
    """A pattern of the shell as one of LIKE, which lets at least the same pass."""
    result, rest = "", pattern
    while rest:
        letter, rest = rest[0], rest[1:]
        if letter == "[":  # a set, as fnmatch reads it
            start = int(rest.startswith("!"))
            end = rest.find("]", start + int(rest[start : start + 1] == "]"))
            if end >= 0:
                letter, rest = "?", rest[end + 1 :]
        if letter in "*?":
            result += "%"
        else:
            result += f"\\{letter}" if letter in "%_\\" else letter
    return result
