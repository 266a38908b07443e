"""Checks of optimisers' and schedulers' saved states, before any of them is loaded."""

from numbers import Number
from typing import Any

import torch
from torch import Tensor

_ADAM = {"step", "exp_avg", "exp_avg_sq"}  # what its next step reads
_NUMBERS = {"lr", "initial_lr", "weight_decay", "momentum", "betas", "eps"}


def state_fault(target: Any, entry: Any) -> str:
    """What keeps `entry` from being a state of `target`; empty if nothing does.

    Args:
        target: an optimiser, or any object with a `state_dict` of numbers and lists.
        entry: of a checkpoint.
    """
    if not isinstance(entry, dict):
        return f"{type(entry).__name__} in place of a state"
    if isinstance(target, torch.optim.Optimizer):
        return _optimizer_fault(target, entry)
    own = target.state_dict()
    needed = {"last_epoch", "base_lrs"} & set(own)
    lacks = sorted(needed - set(entry))
    if lacks:
        return f"no '{lacks[0]}'"
    wrong = [key for key in entry if key in own and not _same_kind(own[key], entry[key])]
    return f"'{wrong[0]}' is {entry[wrong[0]]!r:.40}" if wrong else ""


def _optimizer_fault(target: torch.optim.Optimizer, entry: dict) -> str:
    state, groups = entry.get("state"), entry.get("param_groups")
    if not isinstance(state, dict) or not isinstance(groups, list):
        return "no 'state' or 'param_groups'"
    for own, group in zip(target.param_groups, groups):
        if not isinstance(group, dict) or not isinstance(group.get("params"), list):
            return "a group without 'params'"
        if len(group["params"]) != len(own["params"]):
            return f"a group of {len(group['params'])} parameters, not {len(own['params'])}"
        for key in own.keys() & _NUMBERS & (group.keys() | {"lr"}):
            if not _same_kind(own[key], group.get(key)):
                return f"'{key}' of a group is {group.get(key)!r:.40}"
    if len(groups) != len(target.param_groups):
        return f"{len(groups)} groups, the model has {len(target.param_groups)}"
    numbers = [number for group in groups for number in group["params"]]
    parameters = [parameter for group in target.param_groups for parameter in group["params"]]
    shapes = dict(zip(numbers, (parameter.shape for parameter in parameters)))
    needed = _needed(target)
    if needed and not state:
        return "no moments of any parameter"
    for number, values in state.items():
        if number not in shapes or not isinstance(values, dict):
            return f"a state of parameter {number!r:.40}"
        if needed - set(values):
            return f"parameter {number} has no '{min(needed - set(values))}'"
        for key, value in values.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != shapes[number]:
                return (
                    f"'{key}' of parameter {number} is {tuple(value.shape)}, the parameter is "
                    f"{tuple(shapes[number])}"
                )
            if not isinstance(value, (Tensor, Number, type(None))):
                return f"'{key}' of parameter {number} is {value!r:.40}"
    return ""


def _needed(target: torch.optim.Optimizer) -> set[str]:
    if isinstance(target, (torch.optim.Adam, torch.optim.AdamW)):
        return _ADAM
    if isinstance(target, torch.optim.SGD) and any(g["momentum"] for g in target.param_groups):
        return {"momentum_buffer"}
    return set()


def _same_kind(own: Any, other: Any) -> bool:
    """Whether two values are of a kind: numbers, flags, lists of the same length, and so on."""
    if own is None or other is None:
        return own is None or not isinstance(own, (Number, list, tuple))
    for kind in (bool, Number, str, (list, tuple), dict):
        if isinstance(own, kind):
            alike = isinstance(other, kind) and isinstance(other, bool) == isinstance(own, bool)
            if alike and isinstance(own, (list, tuple)):
                return len(own) == len(other) and all(map(_same_kind, own, other))
            return alike
    return True
