"""One training step: mixed precision that fits the device, and no waiting for the GPU."""

import time
from collections.abc import Iterator
from functools import cache

import torch
from torch import nn

import icre.compat  # noqa: F401

from fastreid.config import CfgNode
from fastreid.utils import comm
from fastreid.utils.events import get_event_storage

from icre.data.pipeline import finish
from icre.engine.guard import FiniteGuard
from icre.utils.errors import UserError


def step_dtype(amp: CfgNode, device: torch.device) -> torch.dtype:
    """SOLVER.AMP -> the dtype of a step's convolutions and matrix products on `device`.

    `auto` is what is fast there: bfloat16; float16 on a GPU without it; float32 on a CPU that does
    not gain by bfloat16.
    """
    known = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    if amp.DTYPE not in ("auto", *known):
        raise UserError(f"SOLVER.AMP.DTYPE {amp.DTYPE!r} is unknown; use auto, {', '.join(known)}")
    if not amp.ENABLED:
        return torch.float32
    if amp.DTYPE != "auto":
        return known[amp.DTYPE]
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float16
    return torch.bfloat16 if _cpu_gains_by_bf16() else torch.float32


@cache
def _cpu_gains_by_bf16() -> bool:
    """Whether a convolution with its gradients, most of a step, is a fifth faster in bfloat16.

    Without AVX-512 torch emulates it in plain loops, some 60 times slower. With AVX-512 no flag
    tells, so it is measured: an AMD EPYC gained 1.4 times, an Intel Xeon without AMX lost as much.
    """
    if "AVX512" not in torch.backends.cpu.get_cpu_capability():
        return False
    dtypes = (torch.float32, torch.bfloat16)  # in turns: another process may take the core at times
    turns = [[_convolution_seconds(dtype) for dtype in dtypes] for _ in range(5)]
    plain, half = map(min, zip(*turns))
    return plain > 1.2 * half


def _convolution_seconds(dtype: torch.dtype) -> float:
    """Of one with the shape of a ResNet's, 1 GFLOP; no random numbers, which a seed is for."""
    images = torch.ones(16, 64, 24, 12, requires_grad=True)
    weight = torch.ones(64, 64, 3, 3, requires_grad=True)
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        nn.functional.conv2d(images, weight, padding=1).sum().backward()
    return time.perf_counter() - start


def memory_layout(name: str, device: torch.device) -> torch.memory_format:
    """SOLVER.LAYOUT -> torch memory format; `auto` is channels_last on a GPU (tensor cores want
    it), contiguous on a CPU (where channels_last was measured to be slower)."""
    if name == "auto":
        name = "channels_last" if device.type == "cuda" else "contiguous"
    known = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    if name not in known:
        raise UserError(f"SOLVER.LAYOUT {name!r} is unknown; use auto, {', '.join(known)}")
    return known[name]


def compile_model(model: nn.Module, backend: str) -> None:
    """torch.compile in place, by SOLVER.COMPILE's backend; nothing where it is empty."""
    if not backend:
        return
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise UserError(f"SOLVER.COMPILE {backend!r} is unknown; use {', '.join(known)} or ''")
    model.compile(backend=backend)


class Step:
    """What fast-reid's SimpleTrainer and AMPTrainer do, for CPU and GPU, bf16 and fp16.

    Args:
        model: returns a dict of scalar losses in training mode; DDP or plain.
        optimizer: of the model's parameters.
        device: where the batches go.
        amp: the node SOLVER.AMP.
        layout: of the images in memory, as of the model's weights.
        guard: sees the losses of every step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        amp: CfgNode,
        layout: torch.memory_format = torch.contiguous_format,
        guard: FiniteGuard | None = None,
    ):
        self.model, self.optimizer, self.guard = model, optimizer, guard
        self.device, self.layout = device, layout
        self.dtype = step_dtype(amp, device)
        scaled = self.dtype == torch.float16
        # fast-reid's LRScheduler hook reads the scale (and waits for it) only if there is a scaler
        self.grad_scaler = torch.amp.GradScaler(device.type) if scaled else None
        self.batches: Iterator[dict] | None = None
        model.train()

    def run(self, log: bool) -> None:
        """Train on the next batch.

        Args:
            log: read the losses and put them into the event storage; that waits for the device.

        Raises:
            UserError: a loss is not finite, where there is a guard.
        """
        start = time.perf_counter()
        batch = to_device(next(self.batches), self.device, self.layout)
        data_time = time.perf_counter() - start
        with torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
            losses = self.model(batch)
        if self.guard:
            self.guard.watch(get_event_storage().iter, losses, batch["img_paths"])
        self.optimizer.zero_grad()
        total = sum(losses.values())
        if self.grad_scaler is None:
            total.backward()
            self.optimizer.step()
        else:
            self.grad_scaler.scale(total).backward()
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


def to_device(
    batch: dict, device: torch.device, layout: torch.memory_format = torch.contiguous_format
) -> dict:
    """A loader's batch, ready for a model on `device`: tensors moved, images augmented.

    Paths stay as they are. So do the modalities: the two-stream backbone routes images by them, on
    the host.
    """
    moved = {
        key: value.to(device, non_blocking=True)
        if isinstance(value, torch.Tensor) and key != "modalities"
        else value
        for key, value in batch.items()
    }
    return finish(moved, layout)
