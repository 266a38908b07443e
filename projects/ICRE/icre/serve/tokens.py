"""Who may read and who may write: tokens from a file or from the environment."""

import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icre.utils.errors import UserError
from icre.utils.secret import read_secret

VARIABLE = "ICRE_TOKENS"
RIGHTS = ("read", "write")
SHORTEST = 16  # characters of a token
_FORM = "write a line NAME read TOKEN, or NAME write TOKEN, for each"
_HOW = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"


@dataclass(frozen=True)
class Holder:
    """Somebody who may ask: the name of a token, and whether it may change the gallery."""

    name: str
    writes: bool


ANYBODY = Holder("local", writes=False)  # where there are no tokens


class Tokens:
    """Tokens, of which only the SHA-256 is kept.

    Args:
        lines: `NAME read|write TOKEN`; blank lines and those that begin with # are passed over.
        where: begins the message of an error; no message holds a token.

    Raises:
        UserError: a line of another form, a name or token that is there twice, or a short token.
    """

    def __init__(self, lines: Sequence[str] = (), where: str = ""):
        self._holders: dict[bytes, Holder] = {}
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) != 3 or words[1] not in RIGHTS:
                raise UserError(f"{where}, line {number}: {_FORM}")
            name, right, token = words
            if len(token) < SHORTEST:
                raise UserError(
                    f"{where}, line {number}: the token of {name} is shorter than {SHORTEST} "
                    f"characters: {_HOW}"
                )
            if name in (one.name for one in self._holders.values()):
                raise UserError(f"{where}, line {number}: {name} has a token already")
            other = self._holders.get(_hash(token))
            if other:
                raise UserError(
                    f"{where}, line {number}: {name} and {other.name} have the same token: {_HOW}"
                )
            self._holders[_hash(token)] = Holder(name, right == "write")
        if where and not self._holders:
            raise UserError(f"{where} holds no token: {_FORM}; {_HOW}")

    def __bool__(self) -> bool:
        return bool(self._holders)

    def holder(self, authorization: str | None) -> Holder | None:
        """Whose token the header `Authorization: Bearer TOKEN` has; None if nobody's.

        The time that it takes depends on no token.
        """
        scheme, _, token = (authorization or "").partition(" ")
        given, found = _hash(token.strip()), None
        for known, holder in self._holders.items():
            if hmac.compare_digest(known, given):
                found = holder
        return found if scheme.lower() == "bearer" else None


def read_tokens(path: str | Path | None) -> Tokens:
    """Tokens of a file, or of the environment variable ICRE_TOKENS (lines, or separated by `;`)."""
    if path is None:
        text = os.environ.get(VARIABLE)
        return Tokens(text.replace(";", "\n").splitlines(), VARIABLE) if text else Tokens()
    return Tokens(read_secret(path).splitlines(), str(path))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
