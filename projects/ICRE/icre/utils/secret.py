"""Tokens: the files that hold them, and the hosts that they reach unseen."""

import ipaddress
import logging
import os
import stat
from pathlib import Path

from icre.utils.errors import UserError
from icre.utils.files import read_bytes

logger = logging.getLogger("fastreid.icre")

MAX_BYTES = 2**20


def read_secret(path: str | Path) -> str:
    """Text of a file that nobody else should read.

    Args:
        path: of the file; a warning says if everybody on this machine can read it.

    Raises:
        UserError: it is missing, no UTF-8 text, or larger than MAX_BYTES.
    """
    try:
        text = read_bytes(path, MAX_BYTES).decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: no UTF-8 text") from None
    if os.stat(path).st_mode & stat.S_IROTH:
        logger.warning("%s can be read by everybody on this machine: chmod 600", path)
    return text


def is_loopback(host: str) -> bool:
    """Whether a name or address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
