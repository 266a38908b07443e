"""One training step: mixed precision for the device, without waiting for the GPU."""

import time
from collections.abc import Iterator

import torch
from torch import nn

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.utils import comm
from fastreid.utils.events import get_event_storage

from icre.data.batch import to_device
from icre.engine.finite import FiniteLossCheck
from icre.utils.errors import UserError


def step_dtype(amp: CfgNode, device: torch.device) -> torch.dtype:
    """SOLVER.AMP -> dtype of a step's convolutions and matrix products on `device`.

    `auto` is bfloat16 on a GPU that has it, else float16; float32 on a CPU, where some processors
    gain by bfloat16 (AVX-512 with AMX or bf16 instructions) and others lose many times over.
    """
    if not amp.ENABLED:
        return torch.float32
    if amp.DTYPE != "auto":
        return {"bfloat16": torch.bfloat16, "float16": torch.float16}[amp.DTYPE]
    if device.type != "cuda":
        return torch.float32
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bf16 else torch.float16


def compile_model(model: nn.Module, name: str) -> None:
    """torch.compile the training of a model in place; no effect if `name` is empty.

    ICRE is one graph, of fast-reid's models the backbone and the head are one each. Evaluation is
    never compiled, so that it gives the same numbers in and after a training.

    Args:
        model: before it is wrapped by DDP.
        name: SOLVER.COMPILE, a backend or one of inductor's modes.
    """
    if not name:
        return
    modes = sorted(set(torch._inductor.list_mode_options()) - {"default"})
    backends = torch.compiler.list_backends(exclude_tags=())
    if name not in (*backends, *modes):
        known = ", ".join([*backends, *modes])
        raise UserError(f"SOLVER.COMPILE {name!r} is unknown; use {known} or ''")
    options = {"mode": name} if name in modes else {"backend": name}
    whole = type(model).compile is not nn.Module.compile  # it knows what of it can be compiled
    parts = [] if whole else [getattr(model, part, None) for part in ("backbone", "heads")]
    for part in [part for part in parts if isinstance(part, nn.Module)] or [model]:
        for stage in range(1, 5):
            # fastreid/modeling/backbones/resnet.py:188 does it in the first forward pass, after
            # which the second would be compiled again
            if getattr(part, f"NL_{stage}_idx", None) == []:
                setattr(part, f"NL_{stage}_idx", [-1])
        part.compile(**options)


class Step:
    """What fast-reid's SimpleTrainer and AMPTrainer do, for CPU and GPU, bf16 and fp16.

    Args:
        model: returns a dict of scalar losses in training mode; DDP or plain.
        optimizer: of the model's parameters.
        device: of the model.
        amp: the node SOLVER.AMP.
        memory_format: of the images, as of the model's weights.
        finite: checks the losses of every step.

    Attributes:
        batches: iterator over training batches, set before the first step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        amp: CfgNode,
        memory_format: torch.memory_format = torch.contiguous_format,
        finite: FiniteLossCheck | None = None,
    ):
        self.model, self.optimizer, self.finite = model, optimizer, finite
        self.device, self.memory_format = device, memory_format
        self.dtype = step_dtype(amp, device)
        scaled = self.dtype == torch.float16
        self.grad_scaler = torch.amp.GradScaler(device.type) if scaled else None
        self.batches: Iterator[dict] = iter(())
        model.train()

    def run(self, log: bool) -> None:
        """Train on the next batch.

        Args:
            log: read the losses and put them into the event storage; that waits for the device.

        Raises:
            UserError: a loss is not finite.
        """
        start = time.perf_counter()
        # a loader of this project has done it, one of a subclass perhaps not
        batch = to_device(next(self.batches), self.device, self.memory_format)
        data_time = time.perf_counter() - start
        # before the forward pass, which then needs no room beside them, and which writes where they
        # are if it is a CUDA graph
        self.optimizer.zero_grad()
        torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
            losses = self.model(batch)
        if self.finite:
            self.finite.add(get_event_storage().iter, losses, batch["img_paths"])
        total = sum(losses.values())
        if self.grad_scaler is None:
            total.backward()
            self.optimizer.step()
        else:
            self.grad_scaler.scale(total).backward()
            # a fused optimiser leaves that to its kernel, after its `step` has clipped gradients
            self.grad_scaler.unscale_(self.optimizer)
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        if log:
            self._log(losses, data_time)

    def _log(self, losses: dict[str, torch.Tensor], data_time: float) -> None:
        """Mean losses over the ranks, and the model's health, into fast-reid's event storage."""
        mine = {name: value.item() for name, value in losses.items()}
        ranks = comm.gather(mine)
        if not comm.is_main_process():
            return
        means = {name: sum(rank[name] for rank in ranks) / len(ranks) for name in mine}
        total = sum(means.values())
        storage = get_event_storage()
        storage.put_scalars(data_time=data_time, total_loss=total, **means)
        health = getattr(getattr(self.model, "module", self.model), "health", {})
        storage.put_scalars(**{f"health/{name}": value.item() for name, value in health.items()})
