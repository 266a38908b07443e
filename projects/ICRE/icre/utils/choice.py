"""One name out of several: how a config key picks its reading of an unclear equation."""

from collections.abc import Mapping
from typing import TypeVar

from icre.utils.errors import UserError

T = TypeVar("T")


def pick(key: str, name: object, table: Mapping[str, T]) -> T:
    """table[name], for the config key `key`.

    Raises:
        UserError: `name` is not in the table; the message lists what is.
    """
    if name not in table:
        known = ", ".join(str(known) for known in table)
        raise UserError(f"{key}: unknown value {name!r}; known: {known}")
    return table[name]
