"""What each request passes before a route sees it: who asks, how much, how long; and the audit."""

import asyncio
import logging
from time import perf_counter
from typing import Any
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from icre.serve.audit import Audit
from icre.serve.limits import RETRY_AFTER, Limits
from icre.serve.metrics import Metrics
from icre.serve.replies import Json
from icre.serve.tokens import ANYBODY, Tokens
from icre.utils.secret import is_loopback

logger = logging.getLogger("fastreid.icre")

OPEN = {"/", "/serve.css", "/serve.js", "/health", "/openapi.json"}
QUERY, ADD, REMOVE = "/v1/query", "/v1/add", "/v1/remove"
WRITES, AUDITED = {ADD, REMOVE}, {QUERY, ADD, REMOVE}
_PATHS = OPEN | AUDITED | {"/v1/info", "/metrics"}  # as labels of the metrics
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


def _split(address: str) -> SplitResult:
    """The parts of an address; none of a text that is no address, such as //[::1."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


class Guard:
    """Middleware of the service.

    It stands before the routes since FastAPI reads the whole body of a form before it looks at
    anything else.

    Args:
        app: what is guarded.
        tokens: without any, only requests of this machine's own pages and programs are answered.
        limits: of size, number and time.
        audit, metrics: get a line and a count of each request.
    """

    def __init__(
        self, app: ASGIApp, tokens: Tokens, limits: Limits, audit: Audit, metrics: Metrics
    ):
        self.app, self.tokens, self.limits = app, tokens, limits
        self.audit, self.metrics = audit, metrics
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = _Request(self, scope, receive, send)
        counted = scope["path"] not in OPEN
        try:
            request.check()
            if counted and self._active >= self.limits.waiting:
                raise _refuse(503, f"{self._active} requests are being answered", **RETRY_AFTER)
        except HTTPException as error:
            await request.refuse(error)
            return
        self._active += counted
        self.metrics.active.set(self._active)
        try:
            await self.app(scope, request.receive, request.send)
        except _NoAudit:
            await request.refuse(_refuse(503, "the audit line cannot be written", **RETRY_AFTER))
        except _TooSlow:  # the server closes the connection
            logger.warning("an answer was not taken within %g s", self.limits.seconds)
        finally:
            self._active -= counted
            self.metrics.active.set(self._active)


class _NoAudit(Exception):
    """Nothing is answered that is not in the audit log."""


class _TooSlow(Exception):
    """A client that does not take its answer must not hold its place."""


class _Request:
    """One request on its way."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send):
        self.guard, self.scope, self._receive, self._send = guard, scope, receive, send
        self.headers, self.path = Headers(scope=scope), scope["path"]
        self.start, self.bytes, self.is_read = perf_counter(), 0, False
        # `state` is shared by all requests
        self.state: dict[str, Any] = {**scope.get("state", {}), "audit": {}, "holder": None}
        self.state["deadline"] = asyncio.get_running_loop().time() + guard.limits.seconds
        scope["state"] = self.state

    def check(self) -> None:
        """Raise HTTPException for a request that is refused before its body is read."""
        tokens, limits = self.guard.tokens, self.guard.limits
        if tokens:
            self.state["holder"] = tokens.holder(self.headers.get("authorization"))
        else:
            self._check_local()
            self.state["holder"] = ANYBODY
        if self.path not in OPEN and self.state["holder"] is None:
            raise _refuse(
                401,
                "this needs the header 'Authorization: Bearer TOKEN' with a token of this service",
                **{"WWW-Authenticate": "Bearer"},
            )
        if self.path in WRITES and not self.state["holder"].writes:
            raise _refuse(403, "changing the gallery needs a token with the right 'write'")
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limits.bytes:
            raise self._too_large()

    def _check_local(self) -> None:
        """Without tokens, a page of another site must reach nothing, by its own name neither."""
        host = self.headers.get("host", "")
        if not is_loopback(_split(f"//{host}").hostname or ""):
            raise _refuse(
                403, "without tokens, the service answers to localhost, 127.0.0.1 and [::1] alone"
            )
        origin = self.headers.get("origin")
        if origin is not None and _split(origin).netloc != host:
            raise _refuse(403, "without tokens, pages of other sites are refused")

    def _too_large(self) -> HTTPException:
        return _refuse(413, f"the request is too large: allowed are {self.guard.limits.allowed}")

    async def receive(self) -> Message:
        """The next part of the body."""
        if self.is_read:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self.state["deadline"]):
                message = await self._receive()
        except TimeoutError:
            raise _refuse(
                408, f"the request was not sent within {self.guard.limits.seconds:g} s"
            ) from None
        if message["type"] == "http.request":
            self.bytes += len(message.get("body", b""))
            self.is_read = not message.get("more_body", False)
            if self.bytes > self.guard.limits.bytes:
                raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """The answer, with the headers of all, once the audit has its line."""
        if message["type"] == "http.response.start":
            self._log(message["status"])
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        try:
            async with asyncio.timeout(self.guard.limits.seconds):
                await self._send(message)
        except TimeoutError:
            raise _TooSlow from None

    async def refuse(self, error: HTTPException) -> None:
        """Answer with an error."""
        reply = Json({"detail": error.detail}, error.status_code, error.headers)
        self.path = "" if self.state.get("unaudited") else self.path
        try:
            await reply(self.scope, self.receive, self.send)
        except _NoAudit:
            self.path = ""
            await reply(self.scope, self.receive, self.send)

    def _log(self, status: int) -> None:
        seconds = perf_counter() - self.start
        if self.path in AUDITED:
            holder = self.state["holder"]
            entry = {"who": holder and holder.name, "action": self.path.rpartition("/")[2]}
            entry |= {**self.state["audit"], "status": status, "seconds": round(seconds, 4)}
            try:
                self.guard.audit(entry)
            except OSError as error:
                logger.error("the audit line cannot be written: %s", error)
                self.state["unaudited"] = True
                raise _NoAudit from None
        label = self.path if self.path in _PATHS else "other"
        self.guard.metrics.request(label, status, seconds)


def _refuse(status: int, detail: str, **headers: str) -> HTTPException:
    return HTTPException(status, detail, headers)
