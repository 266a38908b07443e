"""A connection to Milvus: another attempt where that may help, and one line where it does not."""

import logging
import random
import time
from typing import Any

from icre.gallery.backend import StoreUnavailable
from icre.gallery.milvus.address import Address
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")

# names of gRPC's codes after which the same request may succeed
_TRANSIENT = {
    *("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "RESOURCE_EXHAUSTED"),
    *("INTERNAL", "UNKNOWN"),
}
_REFUSED = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
_RATE_LIMIT, _CONNECT_FAILED = 8, 2  # codes of pymilvus


class Client:
    """Calls methods of pymilvus' MilvusClient; all that is called here may be repeated.

    Args:
        address: of the Milvus.
        timeout: seconds of each request, and for connecting.
        attempts: of each request.
        wait: seconds before the second attempt; doubled for each further one.
    """

    def __init__(
        self, address: Address, timeout: float = 30.0, attempts: int = 4, wait: float = 1.0
    ):
        self.address, self.timeout = address, timeout
        self._attempts, self._wait = attempts, wait
        self._client: Any = None
        _check_packages(address)

    def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        """The result of a method.

        Raises:
            StoreUnavailable: Milvus did not answer in any attempt.
            UserError: it refuses the request.
        """
        for attempt in range(self._attempts):
            try:
                function = getattr(self._connected(), method)
                return function(*args, timeout=self.timeout, **options)
            except UserError:
                raise
            except Exception as error:  # gRPC's and pymilvus' have no class in common
                reason = _reason(error)
                if not _is_transient(error):
                    raise self._refusal(error, reason) from error
                if attempt + 1 == self._attempts:
                    raise StoreUnavailable(
                        f"store {self.address.uri} does not answer ({reason}): see that Milvus "
                        "runs there and can be reached; the same command then goes on where it "
                        "stopped"
                    ) from error
                seconds = self._wait * 2**attempt * random.uniform(0.5, 1)
                logger.warning(
                    "store %s does not answer (%s): another attempt in %.1f s",
                    self.address.uri,
                    reason,
                    seconds,
                )
                time.sleep(seconds)
        raise AssertionError("no attempt")

    def _connected(self) -> Any:
        if self._client is None:
            from pymilvus import MilvusClient

            for name in ("pymilvus", "milvus_lite", "grpc._server"):  # they log tracebacks
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            address = self.address
            options = {"server_pem_path": str(address.ca)} if address.ca else {}
            self._client = MilvusClient(
                address.uri, token=address.token, timeout=self.timeout, **options
            )
        return self._client

    def close(self) -> None:
        """Close the connection; of a file, its server too, so that another process can open it."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self.address.is_local:
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(self.address.uri)

    def _refusal(self, error: Exception, reason: str) -> UserError:
        uri = self.address.uri
        if _code(error) in _REFUSED or "auth" in reason.lower():
            return UserError(
                f"store {uri} refuses the token ({reason}): give the right one by --store-token or "
                "ICRE_STORE_TOKEN"
            )
        if self.address.is_local and "Open local milvus failed" in reason:
            return UserError(
                f"store {uri} cannot be opened: another process has it open, or it is no file of "
                "milvus-lite 3; wait, or choose another"
            )
        return UserError(f"store {uri}: {reason}")


def _check_packages(address: Address) -> None:
    """Raise UserError where a package is missing; imports none."""
    from importlib.util import find_spec

    if find_spec("pymilvus") is None:
        raise UserError("--store needs pymilvus: pip install 'icre[milvus]'")
    if address.is_local and find_spec("milvus_lite") is None:
        raise UserError(
            f"--store {address.uri} needs milvus-lite: pip install --no-deps milvus-lite pyarrow "
            "(it asks for faiss-cpu, which must not be beside a faiss for GPUs)"
        )


def _chain(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__


def _code(error: Exception) -> str:
    """Name of gRPC's code behind an error; "" if none is known."""
    for one in _chain(error):
        code = getattr(one, "code", None)
        code = code() if callable(code) else code
        if hasattr(code, "name") and not isinstance(code, int):
            return code.name
    return ""


def _is_transient(error: Exception) -> bool:
    import grpc
    from pymilvus.exceptions import MilvusException

    code = _code(error)
    if code:
        return code in _TRANSIENT
    if any(isinstance(one, grpc.FutureTimeoutError) for one in _chain(error)):
        return True
    if not isinstance(error, MilvusException):
        return isinstance(error, (OSError, TimeoutError))
    return bool(error.retriable) or error.code in (_RATE_LIMIT, _CONNECT_FAILED)


def _reason(error: Exception) -> str:
    """What went wrong, in one short line."""
    for one in _chain(error):
        details = getattr(one, "details", None)
        if callable(details) and details():
            return " ".join(str(details()).split())[:300]
    text = getattr(error, "message", "") or str(error) or type(error).__name__
    return " ".join(str(text).split())[:300]
