"""The optimiser, as fast-reid builds it, but one that trains under torch >= 2."""

import math
from collections.abc import Iterable

import torch

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping

from icre.utils.errors import UserError

FUSED = ("SGD", "Adam", "AdamW")  # one pass over the parameters, on CPU as on GPU
ENHANCEMENT = "enhance."  # parameters of MPFR and SDCE, which SOLVER.ENHANCE_LR_FACTOR scales
LOSSES = "losses."  # necks and classifiers of auxiliary losses: SOLVER.HEADS_LR_FACTOR, as the head


def build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """fast-reid's optimiser without its ContiguousParams, under which torch >= 2 trains nothing.

    (`zero_grad` now sets gradients to None, which cuts ContiguousParams' views of them.)
    All of fast-reid's SOLVER keys hold (FREEZE_ITERS by `icre.engine.hooks.LayerFreeze`).
    Parameters with the same settings share a group (fast-reid makes one per parameter), so that
    torch's fused and foreach steps have something to fuse.

    Raises:
        UserError: SOLVER.OPT is no optimiser of torch.
    """
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        heads_lr_factor=solver.HEADS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        freeze_layers=cfg.MODEL.FREEZE_LAYERS if solver.FREEZE_ITERS > 0 else [],
    )
    _scale(model, groups, ENHANCEMENT, solver.ENHANCE_LR_FACTOR)
    _scale(model, groups, LOSSES, solver.HEADS_LR_FACTOR)
    kind = getattr(torch.optim, solver.OPT, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise UserError(f"SOLVER.OPT {solver.OPT!r} is no torch optimiser; use SGD, Adam or AdamW")
    kind = maybe_add_gradient_clipping(cfg, kind)
    options = {"fused": True} if solver.OPT in FUSED else {}
    if solver.OPT == "SGD":
        options |= {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    return kind(_merge(groups), **options)


def _scale(model: torch.nn.Module, groups: list[dict], prefix: str, factor: float) -> None:
    """Multiply the learning rate of the parameters whose name begins with `prefix`."""
    chosen = {p for name, p in model.named_parameters() if name.startswith(prefix)}
    for group in groups:
        if group["params"][0] in chosen:
            group["lr"] *= factor


def _merge(groups: Iterable[dict]) -> list[dict]:
    """Join groups that differ in nothing but their parameters, in order of first appearance."""
    merged: dict[tuple, dict] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        key = tuple(sorted(settings.items()))
        merged.setdefault(key, {**settings, "params": []})["params"] += group["params"]
    return list(merged.values())


def scale_warmup(cfg: CfgNode, iters: int) -> CfgNode:
    """SOLVER.WARMUP_EPOCHS -> SOLVER.WARMUP_ITERS, leaving an epoch, or a step, after it.

    Raises:
        UserError: the cosine has no epoch left (fast-reid would divide by zero at its end).
    """
    cfg = cfg.clone()
    cfg.defrost()
    solver, total = cfg.SOLVER, cfg.SOLVER.MAX_EPOCH * iters
    unit = 1 if solver.SCHED_BY_STEP else iters  # steps between two moves of the schedule
    if solver.WARMUP_EPOCHS > 0:
        solver.WARMUP_ITERS = round(min(solver.WARMUP_EPOCHS * iters, total - unit))
    cfg.freeze()
    before = max(math.ceil(solver.WARMUP_ITERS / unit) * unit, solver.DELAY_EPOCHS * iters)
    if solver.SCHED == "CosineAnnealingLR" and before >= total:
        raise UserError(
            f"SOLVER.WARMUP_ITERS or DELAY_EPOCHS take {before / iters:g} epochs of "
            f"SOLVER.MAX_EPOCH {solver.MAX_EPOCH}: nothing is left for CosineAnnealingLR"
        )
    return cfg
