"""A checkpoint's content as a number: torch.load does not compare a file with its own checksums."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from icre.utils.errors import UserError

KEY = "digest"  # entry of a checkpoint that holds its own


def signed(content: dict) -> dict:
    """The content, and its digest beside it."""
    return {**content, KEY: digest(content)}


def verified(content: dict, path: str) -> dict:
    """The content without its digest, where it has one.

    Raises:
        UserError: it is not what was written.
    """
    content = dict(content)
    if KEY in content and content.pop(KEY) != digest(content):
        raise UserError(f"checkpoint {path} is damaged: it does not hold what was written")
    return content


def digest(content: Any) -> str:
    """SHA-256 of dicts, lists and tuples of tensors, numbers and texts, in hexadecimal digits."""
    found = hashlib.sha256()
    for piece in _pieces(content):
        found.update(piece)
    return found.hexdigest()


def _pieces(value: Any) -> Iterator[bytes | memoryview]:
    if isinstance(value, torch.Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    elif isinstance(value, dict):
        yield b"{"
        for key, entry in value.items():
            yield repr(key).encode()
            yield from _pieces(entry)
    elif isinstance(value, (list, tuple)):
        yield b"["
        for entry in value:
            yield from _pieces(entry)
    else:
        yield repr(value).encode()
