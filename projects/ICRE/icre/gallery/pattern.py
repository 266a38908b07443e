"""What is known of an image from its path, by a pattern that the user gives."""

import re
from collections.abc import Iterator
from datetime import datetime
from string import Formatter
from typing import Any

from icre.gallery.times import from_datetime
from icre.utils.errors import UserError

_DIRECTIVES = {
    "Y": r"\d{4}",
    "y": r"\d{2}",
    "m": r"\d{2}",
    "d": r"\d{2}",
    "H": r"\d{2}",
    "M": r"\d{2}",
    "S": r"\d{2}",
    "f": r"\d{1,6}",
    "j": r"\d{3}",
    "z": r"(?:[+-]\d{2}:?\d{2}|Z)",
    "%": "%",
}
EXAMPLE = "{camera}/{time:%Y%m%d_%H%M%S}.jpg"


class Pattern:
    """Reads fields from the end of a path, such as `{camera}/{time:%Y%m%d_%H%M%S}.jpg`.

    A field is camera, identity, modality, `time:FORMAT` (strptime's %Y %y %m %d %H %M %S %f %j %z)
    or the name of an attribute; it ends before the text that follows it, and does not hold a
    slash. `*` is any text without a slash.

    Args:
        text: the pattern.

    Raises:
        UserError: the pattern is malformed, or names no field.
    """

    def __init__(self, text: str):
        self.text, self._format = text, ""
        self.fields: list[str] = []
        try:
            parts = [_literal(before) + self._field(*rest) for before, *rest in _parse(text)]
        except ValueError as error:
            raise UserError(f"--pattern {text}: {error}; an example is {EXAMPLE!r}") from None
        if not self.fields:
            raise UserError(f"--pattern {text} names no field; an example is {EXAMPLE!r}")
        self._expression = re.compile("(?:^|.*/)" + "".join(parts), re.DOTALL)

    def _field(self, name: str | None, form: str | None, conversion: str | None) -> str:
        if name is None:
            return ""
        if not name.isidentifier() or conversion:
            raise ValueError(f"{name or '{}'!r} is no name of a field")
        if name in self.fields:
            raise ValueError(f"{name} is there twice")
        if name in ("path", "box"):
            raise ValueError(f"{name} is not read from a path")
        if bool(form) != (name == "time"):
            raise ValueError("time, and only time, takes a format: {time:%Y%m%d_%H%M%S}")
        self.fields.append(name)
        if form:
            self._format = form
            return f"(?P<time>{_time_expression(form)})"
        return f"(?P<{name}>[^/]+?)"

    def read(self, path: str) -> dict[str, Any]:
        """Field -> its text, `time` -> datetime64[us].

        Raises:
            UserError: the path does not end as the pattern says, or its time does not exist.
        """
        found = self._expression.fullmatch(path)
        if not found:
            raise UserError(f"{path} does not end as --pattern {self.text} says")
        fields: dict[str, Any] = found.groupdict()
        if "time" in fields:
            try:
                fields["time"] = from_datetime(datetime.strptime(fields["time"], self._format))
            except (ValueError, OverflowError) as error:
                raise UserError(f"{path}: --pattern {self.text}: {error}") from None
        return fields


def _parse(text: str) -> Iterator[tuple]:
    """(text before a field, its name, format, conversion), as string.Formatter.parse."""
    yield from Formatter().parse(text)


def _literal(text: str) -> str:
    return "[^/]*".join(re.escape(part) for part in text.split("*"))


def _time_expression(form: str) -> str:
    parts = re.split("%(.?)", form)
    for directive in parts[1::2]:
        if directive not in _DIRECTIVES:
            raise ValueError(f"%{directive} is not read; known: %{' %'.join(_DIRECTIVES)}")
    return "".join(
        _DIRECTIVES[part] if number % 2 else re.escape(part) for number, part in enumerate(parts)
    )
