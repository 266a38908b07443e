"""From a config file and KEY VALUE pairs to a checked, frozen config."""

import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

import icre.compat  # noqa: F401

from fastreid.config import CfgNode, get_cfg

from icre.config.keys import KEEP, KEYS, Key
from icre.utils.errors import UserError

# Importing these registers data sets, models and losses with fast-reid, and checks with CHECKS.
REGISTERING = ("icre.datasets", "icre.modeling", "icre.evaluation.check")
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
    config_file: str | Path = "", options: Sequence[str] | None = None, text: str = ""
) -> CfgNode:
    """fast-reid's defaults, this project's keys, a config file, then KEY VALUE pairs; frozen.

    Args:
        config_file: YAML, with `_BASE_` as fast-reid has it.
        options: KEY VALUE pairs, as words of a command line.
        text: a whole config as YAML, in place of a file.

    Raises:
        UserError: missing or malformed file, unknown key, value of the wrong type or not allowed.
    """
    for module in REGISTERING:
        importlib.import_module(module)
    cfg = get_cfg()
    add_icre_config(cfg)
    defaults = cfg.clone()
    if config_file:
        if not Path(config_file).is_file():
            raise UserError(f"config file {config_file} is missing: see configs/ for those shipped")
        _merge(f"config file {config_file}", cfg.merge_from_file, str(config_file))
    if text:
        _merge(
            "config", lambda words: cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(words))), text
        )
    options = list(options or [])
    if len(options) % 2:
        raise UserError(f"options must be KEY VALUE pairs, {options[-1]!r} stands alone")
    _merge("option", cfg.merge_from_list, options)
    _refuse_empty(cfg, defaults)
    for key in KEYS:
        check_value(key, functools.reduce(getattr, key.name.split("."), cfg))
    for check in CHECKS:
        check(cfg)
    cfg.freeze()
    return cfg


def check_value(key: Key, value: Any) -> None:
    """Raise UserError unless the value is one that the key allows."""
    if key.choices:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            # 0 == False and 1 == True, so the type counts too
            if not any(one == known and type(one) is type(known) for known in key.choices):
                known = ", ".join(map(str, key.choices))
                raise UserError(
                    f"{key.name}: unknown value {one!r}; known: {known} ({key.meaning})"
                )
    if (
        key.number
        and value is not None
        and (isinstance(value, bool) or not isinstance(value, (int, float)))
    ):
        raise UserError(f"{key.name} is {value!r}; it must be a number or None")
    for limit, wrong, words in (
        (key.minimum, lambda limit: value < limit, "at least"),
        (key.maximum, lambda limit: value > limit, "at most"),
    ):
        if limit is not None and wrong(limit):
            raise UserError(f"{key.name} must be {words} {limit}, got {value}")


def _merge(what: str, merge: Callable[[Any], None], argument: Any) -> None:
    try:
        merge(argument)
    except (
        KeyError, AssertionError, ValueError, TypeError, AttributeError, OSError, yaml.YAMLError,
    ) as error:  # fmt: skip
        text = (str(error.args[0] if error.args else error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{what}: {text}") from None


def _refuse_empty(cfg: CfgNode, defaults: CfgNode, above: str = "") -> None:
    """Raise UserError on a key without a value, which yacs accepts for any type."""
    for key, default in defaults.items():
        value = cfg.get(key)
        if isinstance(default, CfgNode) and isinstance(value, CfgNode):
            _refuse_empty(value, default, f"{above}{key}.")
        elif value is None and default is not None:
            raise UserError(f"{above}{key} has no value; its default is {default!r}")
