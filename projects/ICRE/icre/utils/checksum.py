"""Checksums of checkpoints: torch.load does not verify the ones of its zip file."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch

from icre.utils.errors import UserError

KEY = "digest"  # entry of a checkpoint that holds its checksum


def add_checksum(content: dict) -> dict:
    """The content with its checksum as one more entry."""
    return {**content, KEY: content_hash(content)}


def strip_checksum(content: dict, path: str) -> dict:
    """The content without its checksum, verified if there is one.

    Raises:
        UserError: the content does not match.
    """
    content = dict(content)
    if KEY in content and content.pop(KEY) != content_hash(content):
        raise UserError(f"checkpoint {path} is damaged: it does not hold what was written")
    return content


def content_hash(content: Any) -> str:
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
