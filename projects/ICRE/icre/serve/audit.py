"""A line for each query and change: who, when, what; never a picture, a file's name or a token."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from icre.gallery.journal import now
from icre.utils.errors import UserError


class Audit:
    """Appends a JSON object a line.

    Args:
        path: of the file, "-" for the standard error stream, None for nothing.

    Raises:
        UserError: the file cannot be opened.
    """

    def __init__(self, path: str | Path | None):
        self._handle: int | None = None
        if path is None:
            return
        if str(path) == "-":
            self._handle = sys.stderr.fileno()
            return
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._handle = os.open(path, flags, 0o600)
        except OSError as error:
            raise UserError(f"--audit {path}: {error.strerror}") from None

    def __call__(self, entry: dict[str, Any]) -> None:
        """Write a line, in one piece.

        Raises:
            OSError: it cannot be written.
        """
        if self._handle is None:
            return
        line = (json.dumps({"time": now(), **entry}) + "\n").encode()
        if os.write(self._handle, line) != len(line):
            raise OSError("the disk is full")
