"""MODEL.DEVICE and SOLVER.LAYOUT as torch objects, and how exactly a GPU computes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

import icre.compat  # noqa: F401

from fastreid.utils import comm

from icre.utils.errors import UserError

# cuBLAS is deterministic with this workspace, and reads it when it is first used
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def resolve_device(name: str) -> torch.device:
    """MODEL.DEVICE -> torch device; `auto` is this process's GPU, or the CPU where there is none.

    Raises:
        UserError: a GPU is named that there is not, or the name is no device's.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"MODEL.DEVICE {name}: no usable GPU; set it to auto or cpu")
    if name == "cuda":
        return torch.device("cuda", comm.get_local_rank())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"MODEL.DEVICE {name}: no device; set it to auto, cpu or cuda") from None
    if device.type == "cuda" and device.index >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(f"MODEL.DEVICE {name}: there are {count} GPUs, the first is cuda:0")
    return device


def one_gpu_each(name: str) -> bool:
    """Whether each process of a run with this MODEL.DEVICE has a GPU of its own."""
    return name in ("auto", "cuda") and torch.cuda.is_available()


def resolve_memory_format(name: str, device: torch.device) -> torch.memory_format:
    """SOLVER.LAYOUT -> torch memory format.

    `auto` is channels_last on a GPU (tensor cores want it) and contiguous on a CPU (where
    channels_last was measured to be slower).
    """
    if name == "auto":
        name = "channels_last" if device.type == "cuda" else "contiguous"
    return {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[name]


def set_precision(*, deterministic: bool, search: bool) -> None:
    """How this process trains on a GPU.

    Args:
        deterministic: SOLVER.DETERMINISTIC; an operation without a deterministic form then raises
            torch's RuntimeError.
        search: CUDNN_BENCHMARK, cuDNN's search for the fastest algorithm of each shape; not with
            `deterministic`, as the next process might find another one.
    """
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = search and not deterministic


@contextmanager
def exact(device: torch.device | str) -> Iterator[None]:
    """While entered, a GPU computes features and scores as ever again, and near to a CPU.

    That is float32 without TF32, no search for algorithms, and deterministic ones, whatever a
    training in the same process has set. No effect on a CPU, which always does.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    settings = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32
    mode = torch.get_deterministic_debug_mode()
    cudnn.benchmark, cudnn.deterministic = False, True
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32 = settings
        torch.set_deterministic_debug_mode(mode)
