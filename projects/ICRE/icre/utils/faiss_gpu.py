"""faiss on a GPU: the package faiss-gpu in place of faiss-cpu (the extra `gpu`)."""

from functools import cache
from importlib import metadata
from typing import Any

import torch

from icre.utils.errors import UserError

# they all install the module faiss, and overwrite each other's files
PACKAGES = (
    "faiss-cpu",
    "faiss-gpu",
    "faiss-gpu-cu11",
    "faiss-gpu-cu12",
    "faiss-gpu-cu12-cuvs",
    "faiss-cuda",
)


def require_one_package() -> None:
    """Raise UserError if two packages of faiss are installed, of which one process can hold one."""
    found = [name for name in PACKAGES if _installed(name)]
    if len(found) > 1:
        raise UserError(
            f"{' and '.join(found)} are installed over each other: pip uninstall -y "
            f"{' '.join(found)}, then pip install one of them"
        )


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def faiss_on(device: torch.device | str) -> Any | None:
    """The module faiss if it can work on that device and the device is a GPU, else None."""
    if torch.device(device).type != "cuda" or not any(
        _installed(name) for name in PACKAGES if name != "faiss-cpu"
    ):
        return None
    require_one_package()
    import faiss
    import faiss.contrib.torch_utils  # its functions take torch's tensors, on torch's stream

    return faiss if getattr(faiss, "get_num_gpus", int)() else None


@cache
def resources(faiss: Any, index: int) -> Any:
    """faiss's memory and streams of the GPU of that index, of which one is enough."""
    with torch.cuda.device(index):
        return faiss.StandardGpuResources()
