"""Every config key, as it is defined: fast-reid's, this project's, and those of own modules."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import icre.compat

from fastreid.config import get_cfg

from icre.config import add_icre_config, imports
from icre.config.keys import KEEP, KEYS, Key
from icre.config.merge import WORDS
from icre.listing.comments import fastreid_comments
from icre.utils.yaml import leaves

FASTREID = f"fast-reid {icre.compat.FASTREID_VERSION}"


@dataclass(frozen=True)
class KeyEntry:
    """One row of the reference.

    Attributes:
        name: dotted name.
        default: its value.
        allowed: values, limits or type, in words.
        meaning: one line; empty for a key of a user's module.
        unit: of the value; empty if it has none.
        source: who defines the key, and the paper that the default or the method is from.
    """

    name: str
    default: Any
    allowed: str
    meaning: str
    unit: str
    source: str


def key_entries(modules: Sequence[str] = ()) -> list[KeyEntry]:
    """All keys by name; `modules`: those that IMPORTS would name, which are imported.

    Raises:
        UserError: a module cannot be imported.
    """
    cfg = get_cfg()
    theirs = dict(leaves(cfg))
    add_icre_config(cfg)
    owner = dict.fromkeys(dict(leaves(cfg)), "icre") | dict.fromkeys(theirs, FASTREID)
    for module in imports.wanted(cfg, [], [(imports.KEY, tuple(modules))]):
        imports.import_all([module], cfg)
        for name, _ in leaves(cfg):
            owner.setdefault(name, module)
    known, comments = {key.name: key for key in KEYS}, fastreid_comments()
    rows = []
    for name, default in leaves(cfg):
        key = known.get(name) or Key(name, KEEP, comments.get(name, ""))
        parts = [owner[name]]
        if name in theirs and key.default is not KEEP:
            parts.append(f"icre's default and meaning (fast-reid: {theirs[name]!r})")
        if key.source:
            parts.append(key.source)
        rows.append(
            KeyEntry(name, default, _allowed(key, default), key.meaning, key.unit, "; ".join(parts))
        )
    return sorted(rows, key=lambda row: (section(row.name).split("."), row.name))


def section(name: str) -> str:
    """The part of a dotted name before its last dot; empty for a key of no section."""
    return name.rpartition(".")[0]


def as_json(row: KeyEntry) -> dict[str, Any]:
    """Plain values; a list in the place of a tuple."""
    found = dataclasses.asdict(row)
    default = found["default"]
    return found | {"default": list(default) if isinstance(default, tuple) else default}


def _allowed(key: Key, default: Any) -> str:
    several = isinstance(default, (list, tuple))
    if key.choices:
        choices = ", ".join(map(str, key.choices))
        return f"list of: {choices}" if several else choices
    limits = [
        f"{words} {limit:.15g}"
        for words, limit in (
            ("at least", key.minimum),
            ("more than", key.above),
            ("at most", key.maximum),
        )
        if limit is not None
    ]
    kind = "a number or None" if key.number else WORDS[type(default)]
    if key.lengths:
        kind += f" of {' or '.join(map(str, key.lengths))}"
    if limits and not several:
        return ", ".join([kind, *limits])
    return f"{kind}, each {', '.join(limits)}" if limits else kind
