"""MODEL.DEVICE and SOLVER.LAYOUT as torch objects."""

import torch

import icre.compat  # noqa: F401

from fastreid.utils import comm

from icre.utils.errors import UserError


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


def resolve_memory_format(name: str, device: torch.device) -> torch.memory_format:
    """SOLVER.LAYOUT -> torch memory format.

    `auto` is channels_last on a GPU (tensor cores want it) and contiguous on a CPU (where
    channels_last was measured to be slower).
    """
    if name == "auto":
        name = "channels_last" if device.type == "cuda" else "contiguous"
    return {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[name]
