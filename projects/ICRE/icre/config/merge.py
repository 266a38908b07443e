"""Set values of a config by name, each of the type that its default has."""

import ast
import difflib
import math
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.utils.errors import UserError

WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
    type(None): "nothing",
}
_INFINITE = ("SOLVER.CLIP_GRADIENTS.NORM_TYPE",)  # the maximum norm


def merge_mapping(cfg: CfgNode, values: Mapping[Any, Any], defaults: CfgNode, where: str) -> None:
    """Set keys of `cfg` to those of a YAML mapping, section by section.

    Args:
        cfg: changed in place.
        values: nested as `cfg` is.
        defaults: a config whose values have the types that are allowed.
        where: the file, for messages.

    Raises:
        UserError: an unknown key, or a value of another type; names the key and the value.
    """
    _merge(cfg, values, defaults, where, "")


def merge_option(cfg: CfgNode, key: str, value: Any, defaults: CfgNode) -> None:
    """Set a dotted key, as `merge_mapping` does for a file."""
    *sections, leaf = str(key).split(".")
    node, default = cfg, defaults
    for name in sections:
        if not isinstance(default.get(name), CfgNode):
            raise UserError(f"option {key}: {_unknown(str(key), defaults)}")
        node, default = node[name], default[name]
    if leaf not in default:
        raise UserError(f"option {key}: {_unknown(str(key), defaults)}")
    if isinstance(default[leaf], CfgNode):
        raise UserError(f"option {key} is a section of keys: set one of its keys")
    node[leaf] = _typed(str(key), value, default[leaf], "option ")


def _merge(
    cfg: CfgNode, values: Mapping[Any, Any], defaults: CfgNode, where: str, above: str
) -> None:
    for name, value in values.items():
        key = f"{above}{name}"
        if not isinstance(name, str) or name not in defaults:
            raise UserError(f"{where}: {key}: {_unknown(key, defaults, above)}")
        if not isinstance(defaults[name], CfgNode):
            cfg[name] = _typed(key, value, defaults[name], f"{where}: ")
        elif isinstance(value, Mapping):
            _merge(cfg[name], value, defaults[name], where, f"{key}.")
        else:
            raise UserError(f"{where}: {key} is a section of keys, not {_described(value)}")


def _unknown(key: str, defaults: CfgNode, above: str = "") -> str:
    close = difflib.get_close_matches(key, _names(defaults, above), 1, 0.8)
    return f"unknown key{f'; did you mean {close[0]}?' if close else ''}"


def _names(cfg: CfgNode, above: str) -> Iterator[str]:
    for name, value in cfg.items():
        yield f"{above}{name}"
        if isinstance(value, CfgNode):
            yield from _names(value, f"{above}{name}.")


def _typed(key: str, value: Any, default: Any, where: str) -> Any:
    """`value` in the type of `default`; raises UserError if it has another."""
    decoded = _decoded(value)
    if isinstance(default, str) and isinstance(value, str) and type(decoded) in (int, float):
        decoded = value  # a folder may be called 2024
    if default is None:
        return decoded
    if decoded is None:
        raise UserError(f"{where}{key} has no value; its default is {default!r}")
    if isinstance(default, (list, tuple)) and isinstance(decoded, (list, tuple)):
        return type(default)(_entries(key, decoded, default, where))
    if isinstance(default, float) and type(decoded) is int:
        decoded = _float(decoded)
    if type(decoded) is not type(default):
        example = f", such as {default}" if default and isinstance(default, (list, tuple)) else ""
        raise UserError(
            f"{where}{key} is {_described(decoded)}, it must be {WORDS[type(default)]}{example}"
        )
    _require_finite(key, decoded, where)
    return decoded


def _entries(key: str, entries: Any, default: Any, where: str) -> list[Any]:
    """The entries of a list, which must be of the kind that those of its default are."""
    known = {type(entry) for entry in default}
    kinds: tuple[type, ...]
    if known and known <= {int, float}:
        kinds = (int, float) if float in known else (int,)
        entries = [_decoded(entry) for entry in entries]
    else:
        kinds = tuple(known) or (str, int, float)
    for entry in entries:
        if type(entry) not in kinds:
            words = " or ".join(WORDS[kind] for kind in kinds)
            raise UserError(f"{where}{key}: entry {_described(entry)} must be {words}")
        _require_finite(key, entry, where)
    return list(entries)


def _require_finite(key: str, value: Any, where: str) -> None:
    infinite = key in _INFINITE and value == math.inf
    if isinstance(value, float) and not (math.isfinite(value) or infinite):
        raise UserError(f"{where}{key} is {value}, it must be a finite number")


def _decoded(value: Any) -> Any:
    """Text as the Python value that it spells, if it spells one."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _described(value: Any) -> str:
    """The value, shortened, and its kind in plain words."""
    words = WORDS.get(type(value), f"of type {type(value).__name__}")
    return f"{reprlib.repr(value)} ({words})"
