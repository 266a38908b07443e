"""IMPORTS: modules of a user's own, which register losses, backbones and data sets by name."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.config.merge import merge_mapping, merge_option
from icre.utils.errors import UserError

KEY = "IMPORTS"
# Called for a config whose modules are not imported: leave out what only training needs, refuse
# what loading needs. A list, as registries belong to rooms above this one.
LEAVING_OUT: list[Callable[[CfgNode], None]] = []
_trusted = False  # of this process: the user has said --trust-imports


def trust() -> None:
    """From now on, import what any config names."""
    global _trusted
    _trusted = True


def is_trusted() -> bool:
    """Whether `trust` was called."""
    return _trusted


def wanted(
    cfg: CfgNode, sources: Sequence[tuple[str, Mapping]], pairs: Sequence[tuple[str, Any]]
) -> tuple[str, ...]:
    """The modules that files and options name; the last one to name any counts, as for any key.

    Args:
        cfg: the defaults.
        sources: (where, nested values).
        pairs: (dotted key, value).

    Raises:
        UserError: not a list of names.
    """
    found = CfgNode({KEY: cfg[KEY]})
    defaults = found.clone()
    for where, values in sources:
        if KEY in values:
            merge_mapping(found, {KEY: values[KEY]}, defaults, where)
    for key, value in pairs:
        if key == KEY:
            merge_option(found, key, value, defaults)
    for name in found[KEY]:
        if not (isinstance(name, str) and all(part.isidentifier() for part in name.split("."))):
            raise UserError(
                f"{KEY}: {name!r} is no name of a module: write my_losses for my_losses.py"
            )
    return found[KEY]


def import_all(names: Sequence[str], cfg: CfgNode) -> None:
    """Import modules from the current folder or what is installed, and let them add keys.

    A module's `add_config(cfg)`, where it has one, adds its keys with their defaults.

    Raises:
        UserError: there is no such module, or it fails.
    """
    if not names:
        return
    place = os.getcwd()
    if place not in sys.path:
        sys.path.append(place)
    for name in names:
        try:
            module = importlib.import_module(name)
            add = getattr(module, "add_config", None)
            if add:
                add(cfg)
        except ModuleNotFoundError as error:
            if error.name != name and not name.startswith(f"{error.name}."):
                raise UserError(f"{KEY}: {name} needs {error.name}, which is missing") from error
            raise UserError(
                f"{KEY}: there is no module {name} in {place} or among the installed packages"
            ) from None


def without_unknown(values: Mapping[Any, Any], defaults: CfgNode) -> dict[Any, Any]:
    """`values` without keys that `defaults` lacks: those of modules that are not imported."""
    kept: dict[Any, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            continue
        nested = isinstance(value, Mapping) and isinstance(defaults[name], CfgNode)
        kept[name] = without_unknown(value, defaults[name]) if nested else value
    return kept


def leave_out(cfg: CfgNode) -> None:
    """Make `cfg` one of what is known here; raises UserError if the modules are needed."""
    for act in LEAVING_OUT:
        act(cfg)


def refusal(key: str, name: str, cfg: CfgNode) -> UserError:
    """That a name is of modules that were not imported."""
    modules = ", ".join(cfg[KEY])
    return UserError(
        f"{key} {name} is not known here; the config says that it is of {modules}, which is Python "
        "code: if you trust it, put it into the current folder and say so (--trust-imports, or "
        "icre.load(..., trust_imports=True))"
    )
