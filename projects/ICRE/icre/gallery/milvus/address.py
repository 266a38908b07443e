"""Where a Milvus is, and what it takes to be let in."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from icre.utils.errors import UserError
from icre.utils.secret import is_loopback, read_secret

logger = logging.getLogger("fastreid.icre")

VARIABLE = "ICRE_STORE_TOKEN"
LOCAL = ".db"  # end of the name of a milvus-lite file


@dataclass(frozen=True)
class Address:
    """A Milvus.

    Args:
        uri: https:// or http:// with host, port and maybe /database, or a file name with `LOCAL`.
        token: what Milvus takes: an API key, or user:password; "": none.
        ca: PEM file of the certificates that are trusted; None: the system's.
    """

    uri: str
    token: str = field(default="", repr=False)
    ca: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is a file of milvus-lite."""
        return self.uri.endswith(LOCAL)


def parse_address(
    uri: str, token_file: str | Path | None = None, ca: str | Path | None = None
) -> Address:
    """Check what the command line says; nothing is opened.

    Args:
        uri: see `Address`.
        token_file: holds the token alone; None: the environment variable ICRE_STORE_TOKEN, if set.
        ca: see `Address`.

    Raises:
        UserError: it names no place, holds a password, or a file is missing.
    """
    parts = urlsplit(uri) if "://" in uri else None
    if parts and (parts.username is not None or parts.password is not None):
        raise UserError(
            f"--store: leave user and password out of the address, where logs would keep them: "
            f"write user:password into a file for --store-token, or into {VARIABLE}"
        )
    if parts and parts.scheme in ("http", "https") and _has_host(uri):
        if ca and parts.scheme != "https":
            raise UserError(f"--store-ca {ca}: certificates need an address with https://")
        if ca and not Path(ca).is_file():
            raise UserError(f"--store-ca {ca}: there is no such file")
        token = _token(token_file)
        if token and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            logger.warning("--store %s: the token crosses the network unencrypted: use https", uri)
        return Address(uri, token, Path(ca) if ca else None)
    if parts is None and uri.endswith(LOCAL):
        if token_file or ca:
            raise UserError(f"--store {uri}: a file takes neither --store-token nor --store-ca")
        if not Path(uri).absolute().parent.is_dir():
            raise UserError(f"--store {uri}: there is no folder {Path(uri).absolute().parent}")
        return Address(str(Path(uri).absolute()))
    raise UserError(
        f"--store {uri}: write https://HOST:PORT (http:// without encryption), with /DATABASE "
        f"where it is not the default one, or for milvus-lite a file name that ends in {LOCAL}"
    )


def _has_host(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _token(file: str | Path | None) -> str:
    if file is None:
        return os.environ.get(VARIABLE, "").strip()
    token = read_secret(file).strip()
    if not token or len(token.split()) != 1:
        raise UserError(f"--store-token {file}: write the token (or user:password) and no more")
    return token
