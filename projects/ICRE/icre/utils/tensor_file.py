"""Reading files of torch.save and safetensors.

No code is run, and sizes are checked before anything is unpacked.
"""

import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import torch

from icre.utils.errors import first_line

MAX_BYTES = 16 * 2**30  # of a file: more than the checkpoint of any model that this project builds
MAX_ENTRIES = 10_000_000  # values in all lists and dicts together
MAX_DEPTH = 30  # of lists and dicts inside each other


# What pickled NumPy arrays and numbers name
_NUMPY = tuple(
    f"numpy.{name}"
    for name in (
        *(f"{core}.multiarray.{kind}" for core in ("core", "_core")
          for kind in ("_reconstruct", "scalar")),
        "ndarray",
        "dtype",
        *(f"dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32")),
    )
)  # fmt: skip


class SkippedNumbers:
    """In the place of a NumPy array or number of a file; it keeps nothing of it."""

    def __init__(self, *parts: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_tensor_file(path: str | Path, skip_numpy: bool = False) -> Any:
    """Tensors, numbers, texts, lists and dicts of a file of torch.save, on the CPU.

    A file that ends in .safetensors is read with that package (extra `timm`).

    Args:
        path: of the file.
        skip_numpy: NumPy's arrays and numbers in it become `SkippedNumbers`; else such a file is
            refused. NumPy's own code is not run on them.

    Raises:
        ValueError: one line on what is wrong: no regular file, damaged, larger when unpacked than
            it is or than `MAX_BYTES`, code, or a tensor that claims more values than it stores.
    """
    try:
        _check_sizes(path)
        allowed: list[Any] = [(SkippedNumbers, name) for name in _NUMPY] if skip_numpy else []
        with torch.serialization.safe_globals(allowed):
            content = _load(path)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        reason = first_line(error).split(". ")[0][:150]
        raise ValueError(reason) from None
    _check_values(content)
    return content


def _load(path: str | Path) -> Any:
    if Path(path).suffix != ".safetensors":
        return torch.load(path, map_location="cpu", weights_only=True)
    try:
        import safetensors.torch
    except ImportError:
        raise ValueError("safetensors is not installed: pip install 'icre[timm]'") from None
    return safetensors.torch.load_file(path)


def _check_sizes(path: str | Path) -> None:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"it has {status.st_size} bytes, at most {MAX_BYTES} are read")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
        if declared > status.st_size:  # torch.save does not compress
            raise ValueError(
                f"its {status.st_size} bytes would unpack to {declared}, torch.save compresses "
                "nothing"
            )


def _check_values(content: Any) -> None:
    """Refuse tensors without plain storage, and collections that refer to themselves."""
    waiting, seen = [(content, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > MAX_ENTRIES or depth > MAX_DEPTH:
            raise ValueError(f"it nests more than {MAX_ENTRIES} values, or deeper than {MAX_DEPTH}")
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_quantized or value.is_meta:
                raise ValueError(f"it holds a tensor that is not dense: {value.layout}")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(f"a tensor of shape {tuple(value.shape)} stores fewer values")
        elif isinstance(value, dict):
            waiting += [(entry, depth + 1) for entry in value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += [(entry, depth + 1) for entry in value]
