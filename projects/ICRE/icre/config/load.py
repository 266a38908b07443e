"""From a config file and KEY VALUE pairs to a checked, frozen config."""

import functools
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import icre.compat  # noqa: F401

from fastreid.config import CfgNode, get_cfg

from icre.config import imports
from icre.config.keys import KEEP, KEYS, Key
from icre.config.merge import merge_mapping, merge_option
from icre.config.shipped import find_config
from icre.utils.errors import UserError
from icre.utils.yaml import parse_yaml, read_mapping, require_mapping

BASE = "_BASE_"  # in a file: the file whose values it changes
MAX_BASES = 16

# Importing these registers data sets, models and losses with fast-reid, and checks with CHECKS.
REGISTERING = ("icre.datasets", "icre.modeling", "icre.evaluation.check")
TABLE = "Table"  # the data set of DATASETS.TABLE
CHECKS: list[Callable[[CfgNode], None]] = []


def register_check(check: Callable[[CfgNode], None]) -> Callable[[CfgNode], None]:
    """Decorator: let `load_config` call `check(cfg)`, which raises UserError on a bad config."""
    CHECKS.append(check)
    return check


def add_icre_config(cfg: CfgNode) -> None:
    """Add the project's keys to `cfg` in place; call it before `cfg.merge_from_file`.

    fast-reid's own keys keep their meaning. The defaults of SEED, MODEL.DEVICE and
    TEST.EVAL_PERIOD change.
    """
    for key in KEYS:
        if key.default is not KEEP:
            *nodes, leaf = key.name.split(".")
            node = cfg
            for name in nodes:
                if name not in node:
                    node[name] = CfgNode()
                node = node[name]
            node[leaf] = key.default


def load_config(
    config_file: str | Path = "",
    options: Sequence[str] | None = None,
    text: str = "",
    trust_imports: bool = True,
) -> CfgNode:
    """fast-reid's defaults, this project's keys, a config file, then KEY VALUE pairs; frozen.

    Args:
        config_file: YAML, with `_BASE_` as fast-reid has it; found as `find_config` says.
        options: KEY VALUE pairs, as words of a command line.
        text: a whole config as YAML, in place of a file.
        trust_imports: import the modules that IMPORTS names. If not (a config that came with
            somebody's checkpoint), their keys and losses, which only training needs, are left out.

    Raises:
        UserError: missing or malformed file, unknown key, value of the wrong type or not allowed;
            a module that cannot be imported, or is needed and not trusted.
    """
    for module in REGISTERING:
        importlib.import_module(module)
    cfg = get_cfg()
    add_icre_config(cfg)
    sources: list[tuple[str, dict[Any, Any]]] = []
    if config_file:
        sources += [
            (f"config file {file}", one) for file, one in _with_bases(find_config(config_file))
        ]
    if text:
        sources.append(("config", require_mapping(parse_yaml(text, "config"), "config", _MAPPING)))
    options = list(options or [])
    if len(options) % 2:
        raise UserError(f"options must be KEY VALUE pairs, {options[-1]!r} stands alone")
    pairs = list(zip(options[::2], options[1::2]))
    modules = imports.wanted(cfg, sources, pairs)
    untrusted = bool(modules) and not (trust_imports or imports.is_trusted())
    if not untrusted:
        imports.import_all(modules, cfg)
    defaults = cfg.clone()
    for where, values in sources:
        if untrusted:
            values = imports.without_unknown(values, defaults)
        merge_mapping(cfg, values, defaults, where)
    for key, value in pairs:
        merge_option(cfg, key, value, defaults)
    if untrusted:
        imports.leave_out(cfg)
    if cfg.DATASETS.TABLE and TABLE not in (*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS):
        cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = (TABLE,)
    for entry in KEYS:
        check_value(entry, functools.reduce(getattr, entry.name.split("."), cfg))
    for check in CHECKS:
        check(cfg)
    cfg.freeze()
    return cfg


def check_value(key: Key, value: Any) -> None:
    """Raise UserError unless the value, or each entry of a list, is one that the key allows."""
    entries = value if isinstance(value, (list, tuple)) else (value,)
    if key.lengths and len(entries) not in key.lengths:
        known = " or ".join(map(str, key.lengths))
        raise UserError(f"{key.name} is {value}; it must have {known} entries ({key.meaning})")
    for one in entries:
        # 0 == False and 1 == True, so the type counts too
        if key.choices and not any(one == c and type(one) is type(c) for c in key.choices):
            known = ", ".join(map(str, key.choices))
            raise UserError(f"{key.name}: unknown value {one!r}; known: {known} ({key.meaning})")
        if key.number and one is None:
            continue
        if key.number and (isinstance(one, bool) or not isinstance(one, (int, float))):
            raise UserError(f"{key.name} is {value!r}; it must be a number or None")
        for limit, allowed, words in (
            (key.minimum, lambda limit, one=one: one >= limit, "at least"),
            (key.above, lambda limit, one=one: one > limit, "more than"),
            (key.maximum, lambda limit, one=one: one <= limit, "at most"),
        ):
            if limit is not None and not allowed(limit):
                unit = f" {key.unit}" if key.unit else ""
                raise UserError(
                    f"{key.name} must be {words} {limit}{unit}, got {value} ({key.meaning})"
                )


_MAPPING = "a config is a mapping of keys to values: `icre list configs` has those shipped"


def _with_bases(file: Path) -> list[tuple[Path, dict[Any, Any]]]:
    """The files that a config file builds on by _BASE_, the first one first, and itself."""
    chain: list[tuple[Path, dict[Any, Any]]] = []
    while True:
        if not os.path.exists(file):
            named = f", named as {BASE} in {chain[-1][0]}," if chain else ""
            raise UserError(
                f"config file {file}{named} is missing: `icre list configs` has those shipped"
            )
        if any(file.samefile(other) for other, _ in chain):
            names = " -> ".join(str(other) for other, _ in chain)
            raise UserError(f"config files name each other as {BASE}: {names} -> {file}")
        if len(chain) > MAX_BASES:
            raise UserError(f"config file {chain[0][0]} has more than {MAX_BASES} {BASE} files")
        values = read_mapping(file, _MAPPING)
        base = values.pop(BASE, None)
        chain.append((file, values))
        if base is None:
            return chain[::-1]
        if not (isinstance(base, str) and base) or "://" in base:
            raise UserError(f"config file {file}: {BASE} is {base!r}; it must be a file's path")
        file = file.parent / os.path.expanduser(base)
