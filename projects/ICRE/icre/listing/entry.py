"""One row of a list."""

import inspect
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """Something that a config can name.

    Attributes:
        name: as the config writes it.
        origin: "icre", "fast-reid", or the module of the user that registered it.
        meaning: one sentence.
    """

    name: str
    origin: str
    meaning: str


def origin_of(thing: Any) -> str:
    """Whose a registered class or function is; a loss that wraps a function is the function's."""
    wrapped = getattr(thing, "function", None)
    module = (wrapped if inspect.isfunction(wrapped) else thing).__module__
    owner = module.split(".")[0]
    return {"icre": "icre", "fastreid": "fast-reid"}.get(owner, module)


def meaning_of(thing: Any) -> str:
    """First sentence of the docstring; empty if there is none."""
    text = " ".join((thing.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"(?<=\w{3})\.\s+(?=[A-Z])", text)[0].rstrip(".:")
